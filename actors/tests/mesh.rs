//! 32 messengers in 4 processes, each sending to every other, while processes are killed and come
//! back as new instances: S1, S2 and S6 within each process, S4 by comparing the books of both.
//!
//! `STELLATE_LONG=1` kills more often, with more between.

mod mesh_support;
mod support;

use mesh_support::audit::Audit;
use mesh_support::{EACH, process};
use support::children::{Process, part};
use support::{Draw, scale, within};

const PROCESSES: u64 = 4;
const TEST: &str = "s4_a_mesh_of_processes_that_are_killed";

struct Mesh {
    directory: std::path::PathBuf,
    running: Vec<(u64, Process)>,
    generations: u64,
}

impl Mesh {
    fn book(&self, generation: u64) -> std::path::PathBuf {
        self.directory.join(format!("book-{generation}"))
    }

    async fn start(&mut self, index: u64) -> (u64, Process) {
        self.generations += 1;
        let generation = self.generations;
        let (mesh, book) = (std::process::id(), self.book(generation));
        let part = format!("{mesh} {PROCESSES} {index} {generation} {}", book.display());
        (generation, Process::start(TEST, &part, None).await)
    }

    /// Waits until a process took `more` messages and heard of every peer of each messenger.
    async fn progress(&mut self, index: usize, more: u64) {
        let control = &mut self.running[index].1.control;
        let mut first = None;
        loop {
            let line = control.expect("progress").await;
            let (taken, heard) = line.split_once(' ').expect("two numbers");
            let number = |word: &str| word.parse::<u64>().expect("a number");
            let (taken, heard) = (number(taken), number(heard));
            let peers = EACH * (PROCESSES * EACH - 1);
            if taken >= *first.get_or_insert(taken) + more && heard == peers {
                return;
            }
        }
    }
}

#[actix_rt::test]
async fn s4_a_mesh_of_processes_that_are_killed() {
    if let Some((words, control)) = part().await {
        return process::run(&words, control).await;
    }
    let directory = std::env::temp_dir().join(format!("stellate-mesh-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("makes a directory");
    let mut mesh = Mesh { directory, running: Vec::new(), generations: 0 };
    let (mut audit, mut draw) = (Audit::default(), Draw(3));
    for index in 0..PROCESSES {
        let process = mesh.start(index).await;
        mesh.running.push(process);
    }
    for _ in 0..scale(2, 40) {
        for index in 0..PROCESSES as usize {
            mesh.progress(index, scale(300, 10_000)).await;
        }
        let index = draw.below(PROCESSES);
        let (generation, victim) = mesh.running.remove(index as usize);
        victim.kill();
        for me in index * EACH..(index + 1) * EACH {
            audit.killed(u128::from(generation) << 32 | u128::from(me + 1));
        }
        let process = mesh.start(index).await;
        mesh.running.insert(index as usize, process);
    }
    for index in 0..PROCESSES as usize {
        mesh.progress(index, scale(300, 10_000)).await;
    }
    for word in [("stop", "stopped"), ("close", "closed")] {
        for (_, process) in &mut mesh.running {
            process.control.say(word.0).await;
        }
        for (_, process) in &mut mesh.running {
            process.control.expect(word.1).await;
        }
    }
    for (_, process) in std::mem::take(&mut mesh.running) {
        within("a process to go", process.gone()).await;
    }
    for generation in 1..=mesh.generations {
        audit.read(&std::fs::read_to_string(mesh.book(generation)).expect("a book"));
    }
    let sums = audit.check();
    println!("{sums:?}");
    assert!(sums.restarts_seen as u64 >= scale(2, 40) * EACH * (PROCESSES - 1) * EACH / 2);
    assert!(sums.compared > 0 && sums.known > 0 && sums.taken_back > 0, "{sums:?}");
    std::fs::remove_dir_all(&mesh.directory).expect("removes");
}
