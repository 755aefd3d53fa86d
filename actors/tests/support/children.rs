//! Processes of this same test binary, which talk to the test by lines over a socket.
//!
//! A file that uses them has a test of its own that does nothing unless it runs in a child.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::within;

const CONTROL: &str = "STELLATE_TEST_CONTROL";
const PART: &str = "STELLATE_TEST_PART";

/// A line to the other side, and lines from it.
pub(crate) struct Control {
    lines: Lines<BufReader<OwnedReadHalf>>,
    to: OwnedWriteHalf,
}

impl Control {
    fn new(stream: TcpStream) -> Self {
        let (from, to) = stream.into_split();
        Self { lines: BufReader::new(from).lines(), to }
    }

    pub(crate) async fn say(&mut self, line: &str) {
        // Whoever does not listen any more is found out by what it does not say.
        let _ = self.to.write_all(format!("{line}\n").as_bytes()).await;
    }

    /// The next line; `None` when the other side is gone.
    pub(crate) async fn hear(&mut self) -> Option<String> {
        self.lines.next_line().await.ok().flatten()
    }

    /// The next line that begins so, without that beginning.
    pub(crate) async fn expect(&mut self, begin: &str) -> String {
        let heard = async {
            loop {
                let line = self.hear().await.unwrap_or_else(|| panic!("gone before {begin:?}"));
                if let Some(rest) = line.strip_prefix(begin) {
                    return rest.trim().to_owned();
                }
            }
        };
        within(begin, heard).await
    }
}

/// In a child: what it is to do, and the line to the test. `None` in any other process.
pub(crate) async fn part() -> Option<(Vec<String>, Control)> {
    let part = std::env::var(PART).ok()?;
    let control = std::env::var(CONTROL).ok()?;
    let stream = TcpStream::connect(control).await.expect("the test listens");
    let words = part.split_whitespace().map(str::to_owned).collect();
    Some((words, Control::new(stream)))
}

/// A child, killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) control: Control,
}

impl Process {
    /// Runs `test` of this binary in a child, as `part`. With `descriptors`, it may have so many.
    pub(crate) async fn start(test: &str, part: &str, descriptors: Option<u32>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at: SocketAddr = listener.local_addr().expect("bound");
        let binary = std::env::current_exe().expect("a binary");
        let mut command = match descriptors {
            None => Command::new(&binary),
            Some(most) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {most}; exec \"$0\" \"$@\"")).arg(&binary);
                shell
            }
        };
        command.args([test, "--exact", "--nocapture"]);
        command.env(PART, part).env(CONTROL, at.to_string()).stdout(Stdio::null());
        let child = command.spawn().expect("starts");
        let (stream, _) = within("the child", listener.accept()).await.expect("accepts");
        Self { child, control: Control::new(stream) }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("is killed");
        self.child.wait().expect("is dead");
    }

    /// Waits until it has gone by itself, and asserts that it went well.
    pub(crate) async fn gone(mut self) {
        while within("the child's end", self.control.hear()).await.is_some() {}
        let status = self.child.wait().expect("is dead");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
