//! A session that is loaded both ways, while queue pairs, endpoints and cables fail under it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::rdma::{Rdma, sys::System};
use tokio::time::{Instant, sleep};

use crate::side::{Note, Side, cable, data, fabric, scheme, setting, until};
use crate::tap::Tap;

/// Sends notes until it is told to stop; how many there were.
fn load(there: &Connection, stop: &Rc<Cell<bool>>) -> tokio::task::JoinHandle<u64> {
    let (there, stop) = (there.clone(), stop.clone());
    actix_rt::spawn(async move {
        let mut n = 0;
        while !stop.get() {
            there.send(Note(n).with(data(n))).await.unwrap();
            n += 1;
        }
        n
    })
}

/// `STELLATE_SOAK` is how long, in seconds.
#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s1_s2_s8_a_loaded_session_comes_through_a_soak_of_faults() {
    let fabric = fabric();
    let span = Duration::from_secs(setting("STELLATE_SOAK").parse().unwrap());
    let tap = Tap::on(Arc::new(System::new()));
    let rdma = Arc::new(Rdma::on(Arc::new(tap.clone())));
    let two = Side::new(2, &[&fabric]).await;
    let one = Side::over(1, &[], Some(rdma)).await;
    let there = one.messenger.connect(EntityName::osd(2), two.address(scheme(&fabric))).unwrap();
    let stop = Rc::new(Cell::new(false));
    let out = load(&there, &stop);
    two.has_begun(4).await;
    let back = two.messenger.sessions().pop().expect("it has read from one");
    let home = load(&back, &stop);
    let begin = Instant::now();
    let mut faults = 0;
    while begin.elapsed() < span || faults < 6 {
        let lost = there.counters().links_lost;
        match faults % 6 {
            0 | 2 | 4 => tap.to_error(),
            1 | 3 => {
                let whose = if faults % 6 == 1 { &one } else { &two };
                whose.messenger.tree().panic("endpoint").unwrap();
            }
            _ => cable("down"),
        }
        faults += 1;
        until("the loss", || there.counters().links_lost > lost).await;
        if faults % 6 == 0 {
            cable("up");
        }
        // It comes back, and moves a little before the next.
        until("it is back", || there.is_up()).await;
        let before = two.read();
        until("some more", || two.read() > before + 4).await;
        sleep(Duration::from_millis(50)).await;
    }
    stop.set(true);
    let (out, home) = (out.await.unwrap(), home.await.unwrap());
    two.has_read(out, &there).await;
    one.has_read(home, &back).await;
    let lost = there.counters().links_lost;
    println!("{faults} faults, {lost} links lost, {out} and {home} notes in {:?}", begin.elapsed());
    assert_eq!((there.counters().ended, back.counters().ended), (0, 0));
}
