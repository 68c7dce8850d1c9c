//! A real service with real clients: busybox httpd.

use crate::harness::{Going, send};
use crate::needs::{busybox, scenario};
use crate::proc;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const SERVERS: usize = 5;
/// Kills of each server: after a fifth, the next start would be 16 s away.
const KILLS: usize = 4;
const BODY: &str = "served by a supervised httpd\n";

pub fn tests() -> Vec<Trial> {
    vec![scenario!(httpd_comes_back_each_of_twenty_times, Busybox)]
}

/// httpd is killed 20 times while clients go on asking. It is back each time, with one instance
/// only, and no client ever gets anything but the right answer or none.
fn httpd_comes_back_each_of_twenty_times() {
    let mut going = Going::new();
    let root = going.path("www");
    fs::create_dir(&root).expect("a directory");
    fs::write(root.join("index.html"), BODY).expect("a page");
    let busybox = busybox().expect("it is needed");
    let ports: [u16; SERVERS] = std::array::from_fn(|_| free_port());
    for port in ports {
        let root = root.display();
        going.write(
            &format!("httpd-{port}"),
            format!("cmd={busybox} httpd -f -p 127.0.0.1:{port} -h '{root}'\n"),
        );
    }
    going.start();
    let answers: [AtomicUsize; SERVERS] = std::array::from_fn(|_| AtomicUsize::new(0));
    let wrong = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also raised when an assertion fails, or else the clients would never end.
        let _end = Raise(&over);
        for (port, answers) in ports.iter().zip(&answers) {
            let (over, wrong) = (&over, &wrong);
            scope.spawn(move || ask(*port, answers, wrong, over));
        }
        let mut servers = ports.map(|port| server(&going, port, 0));
        for _round in 0..KILLS {
            for pid in servers {
                send(pid, Signal::SIGKILL);
            }
            for (server_pid, port) in servers.iter_mut().zip(ports) {
                *server_pid = server(&going, port, *server_pid);
            }
            for (count, port) in answers.iter().zip(ports) {
                let before = count.load(Ordering::Relaxed);
                let is_served = || count.load(Ordering::Relaxed) > before;
                going.wait_for(&format!("an answer from port {port}"), is_served);
            }
        }
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0, "answers that nobody should get");
    for port in ports {
        let ends = going.log_count(&format!("httpd-{port}: killed by signal 9"));
        assert_eq!(ends, KILLS, "{}", going.report());
    }
    going.terminate();
}

/// Raises the flag when dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for a server of the port that is not the old one. There is never more than one.
fn server(going: &Going, port: u16, old: i32) -> i32 {
    let address = format!("127.0.0.1:{port}");
    let servers = || {
        let mut pids = going.children();
        pids.retain(|&pid| proc::arguments(pid).contains(&address) && proc::is_running(pid));
        assert!(pids.len() <= 1, "two on port {port}: {pids:?}");
        pids
    };
    going.wait_for(&format!("httpd on port {port}"), || servers().iter().any(|&pid| pid != old));
    servers().first().copied().unwrap_or_else(|| panic!("it did not stay\n{}", going.report()))
}

/// A client that never gives up.
fn ask(port: u16, answers: &AtomicUsize, wrong: &AtomicUsize, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match page(port) {
            Ok(answer) if answer.contains("200 OK") && answer.ends_with(BODY) => {
                answers.fetch_add(1, Ordering::Relaxed);
            }
            // Cut off by the kill, or not served at all.
            Ok(answer) if is_beginning(&answer) => {}
            Err(_) => {}
            Ok(_) => drop(wrong.fetch_add(1, Ordering::Relaxed)),
        }
        // The pace of the client.
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a right answer may begin like this.
fn is_beginning(answer: &str) -> bool {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let is_status = |status: &&str| head.starts_with(status) || status.starts_with(head);
    ["HTTP/1.0 200 OK", "HTTP/1.1 200 OK"].iter().any(is_status) && BODY.starts_with(body)
}

fn page(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A port on which nothing listens now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
