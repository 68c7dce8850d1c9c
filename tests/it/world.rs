//! The world of a service, compared as a whole: who it is, where it is, what it has and what it was
//! given.

use crate::harness::{Going, install_program, refuse, run_by};
use crate::needs::scenario;
use crate::proc;
use libtest_mimic::Trial;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, setgroups};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(the_default_world),
        scenario!(a_world_with_everything, Mounts),
        scenario!(env_lines_in_their_order),
        scenario!(as_much_environment_as_the_limit_allows),
        scenario!(more_environment_than_fits_is_reported),
        scenario!(pid_1_of_a_container_hands_its_environment_on, Mounts),
        scenario!(chroot_comes_before_cwd_and_path, Root),
        scenario!(accounts_and_log_come_before_chroot, Mounts),
        scenario!(failures_inside_a_chroot_are_reported, Root),
        scenario!(a_syslog_inside_a_chroot_hears_nothing, Root),
        scenario!(accounts_by_name_and_by_number, Mounts),
        scenario!(missing_accounts_are_reported, Mounts),
        scenario!(long_lines_and_many_groups, Mounts),
        scenario!(fields_as_long_as_the_limit_allows, Mounts),
        scenario!(as_many_groups_as_the_limit_allows, Mounts),
        scenario!(a_group_alone_changes_no_other, Mounts),
        scenario!(a_file_without_a_final_newline, Mounts),
        scenario!(an_account_that_appears_later, Mounts),
        scenario!(without_a_passwd_numbers_do, Mounts),
        scenario!(unreadable_accounts_are_reported, Mounts),
        scenario!(a_user_without_a_name_is_in_no_group, Mounts),
        scenario!(without_root_no_user_is_changed, Root),
        scenario!(a_user_is_not_changed_if_the_groups_cannot_be, Mounts),
        scenario!(staying_the_same_user_needs_no_root, Root),
        scenario!(a_link_in_the_place_of_cwd_leads_nowhere_new, Root),
    ]
}

/// Everything that /proc says about the world of a process.
#[derive(Debug, PartialEq)]
struct World {
    words: Vec<String>,
    environment: Vec<String>,
    cwd: PathBuf,
    root: PathBuf,
    /// Real, effective, saved, and that for file systems.
    uids: String,
    gids: String,
    groups: String,
    umask: String,
    blocked: String,
    ignored: String,
    pending: [String; 2],
    limits: String,
    nice: String,
    is_leader: [bool; 2],
    has_going_as_parent: bool,
    descriptors: Vec<(i32, PathBuf)>,
}

impl World {
    fn of(going: &Going, pid: i32) -> World {
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).expect("it runs");
        let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("it runs");
        let stat = proc::stat(pid).expect("it runs");
        World {
            words: proc::arguments(pid),
            environment: proc::environment(pid),
            cwd: link("cwd"),
            root: link("root"),
            uids: proc::status(pid, "Uid"),
            gids: proc::status(pid, "Gid"),
            groups: proc::status(pid, "Groups"),
            umask: proc::status(pid, "Umask"),
            blocked: proc::status(pid, "SigBlk"),
            ignored: proc::status(pid, "SigIgn"),
            pending: ["SigPnd", "ShdPnd"].map(|field| proc::status(pid, field)),
            limits: text("limits"),
            nice: text("stat").rsplit(')').next().unwrap().split(' ').nth(17).unwrap().into(),
            is_leader: [stat.session == pid, stat.group == pid],
            has_going_as_parent: stat.parent == going.pid(),
            descriptors: proc::descriptors(pid),
        }
    }

    /// What is promised for `cmd=sleep 1000`; user, groups and limits are those of going.
    fn promised(going: &Going) -> World {
        let none = || "0000000000000000".to_owned();
        let own = |field| proc::status(going.pid(), field);
        World {
            words: ["sleep", "1000"].map(str::to_owned).to_vec(),
            environment: vec![PATH.into()],
            cwd: "/".into(),
            root: "/".into(),
            uids: own("Uid"),
            gids: own("Gid"),
            groups: own("Groups"),
            umask: "0022".into(),
            blocked: none(),
            ignored: none(),
            pending: [none(), none()],
            limits: fs::read_to_string(format!("/proc/{}/limits", going.pid())).expect("it runs"),
            nice: "0".into(),
            is_leader: [true; 2],
            has_going_as_parent: true,
            descriptors: vec![
                (0, "/dev/null".into()),
                (1, going.path("stdout")),
                (2, going.path("log")),
            ],
        }
    }

    /// Waits first until the program is executed, and the dynamic linker has no library open any
    /// more.
    #[track_caller]
    fn assert_of(going: &Going, is_it: impl Fn(&[String]) -> bool, promised: &World) {
        let pid = going.wait_child("the service", is_it);
        going.wait_for("three descriptors", || proc::descriptors(pid).len() == 3);
        assert_eq!(World::of(going, pid), *promised);
    }
}

fn is_sleep(words: &[String]) -> bool {
    words == ["sleep", "1000"]
}

/// Starts going in very unusual surroundings, of which services must inherit only the limits.
fn disturb(command: &mut Command) {
    command.env("HOME", "/strange").env("LANG", "xx").env_remove("PATH").current_dir("/tmp");
    let disturb = || {
        umask(Mode::from_bits_truncate(0o077));
        SigSet::all().thread_block()?;
        for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGINT, Signal::SIGCHLD] {
            // SAFETY: no handler.
            unsafe { signal(ignored, SigHandler::SigIgn)? };
        }
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
        setrlimit(Resource::RLIMIT_CORE, hard.min(4096), hard)?;
        // Left open; no service must inherit them.
        for _ in 0..20 {
            std::mem::forget(nix::unistd::dup(std::io::stdin())?);
        }
        Ok(())
    };
    // SAFETY: between fork and exec it calls the kernel only.
    unsafe { command.pre_exec(disturb) };
}

fn the_default_world() {
    let mut going = Going::new();
    going.write("plain", "cmd=sleep 1000\n");
    going.start_with(disturb);
    World::assert_of(&going, is_sleep, &World::promised(&going));
    going.terminate();
}

/// A private /etc/passwd and /etc/group, in a mount namespace.
struct Accounts {
    passwd: PathBuf,
    group: PathBuf,
}

impl Accounts {
    fn new(going: &Going, passwd: &str, group: &str) -> Accounts {
        let accounts = Accounts { passwd: going.path("passwd"), group: going.path("group") };
        fs::write(&accounts.passwd, passwd).expect("a file");
        fs::write(&accounts.group, group).expect("a file");
        accounts
    }

    fn put_in(&self, command: &mut Command) {
        let file = |path: &Path| CString::new(path.to_str().expect("plain")).expect("no NUL");
        let mounts = [(file(&self.passwd), c"/etc/passwd"), (file(&self.group), c"/etc/group")];
        let put = move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&Path>;
            mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            for (file, place) in &mounts {
                mount(Some(file.as_c_str()), *place, nothing, MsFlags::MS_BIND, nothing)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec it calls the kernel only, on what was made before.
        unsafe { command.pre_exec(put) };
    }
}

/// The same number four times, as /proc shows it.
fn four(id: u32) -> String {
    [id; 4].map(|id| id.to_string()).join("\t")
}

/// All keys at once. `chroot` leads to /, so that there is something to execute.
fn a_world_with_everything() {
    let mut going = Going::new();
    let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:4711:4712:a, b, c:/home/x,web:\n";
    let accounts = Accounts::new(&going, passwd, "staff:x:50:a,web\nweb:x:4712:\nlast:x:60:web\n");
    going.open_to_everybody();
    let log = going.path("web.log");
    let settings = "chroot=/\ncwd=/usr\nuser=web\ngroup=staff\nenv=LANG\nenv=A=b c=d\nenv=USER=me\n\
                    restart=never\nstop=INT\ntimeout=1\n";
    going.write("web", format!("cmd=sleep 1000\n{settings}log={}\n", log.display()));
    going.start_with(|command| {
        disturb(command);
        accounts.put_in(command);
    });
    let environment =
        [PATH, "HOME=/home/x,web", "USER=me", "LOGNAME=web", "SHELL=/bin/sh", "LANG=xx", "A=b c=d"];
    let promised = World {
        environment: environment.map(str::to_owned).to_vec(),
        cwd: "/usr".into(),
        uids: four(4711),
        gids: four(50),
        // Both groups of /etc/group, and the one asked for, once each; the kernel sorts them.
        groups: "50 60".into(),
        descriptors: vec![(0, "/dev/null".into()), (1, log.clone()), (2, log)],
        ..World::promised(&going)
    };
    World::assert_of(&going, is_sleep, &promised);
    going.signal(Signal::SIGTERM);
    assert!(going.wait_exit().success());
    going.wait_log("web: stopped, killed by signal 2");
}

/// The environment of the service that runs `sleep SECONDS`.
fn environment_of(going: &Going, seconds: &str) -> Vec<String> {
    let pid = going.wait_child(seconds, |words| words == ["sleep", seconds]);
    proc::environment(pid)
}

/// `NAME=VALUE` sets, `NAME` takes over, `*` takes over all; the last one wins, and each name
/// appears once.
fn env_lines_in_their_order() {
    let mut going = Going::new();
    let table: [(&str, &str, &[&str]); 9] = [
        ("1001", "", &[PATH]),
        ("1002", "env=A=1\nenv=B=\nenv=A=2\n", &[PATH, "A=2", "B="]),
        ("1003", "env=ONE\nenv=NONE\n", &[PATH, "ONE=1"]),
        ("1004", "env=ONE=x\nenv=ONE\n", &[PATH, "ONE=1"]),
        ("1005", "env=ONE\nenv=ONE=x y = z\n", &[PATH, "ONE=x y = z"]),
        ("1006", "env=*\n", &["PATH=/usr/bin:/bin", "ONE=1", "TWO=a=b"]),
        ("1007", "env=ONE=x\nenv=*\nenv=TWO=y\n", &["PATH=/usr/bin:/bin", "ONE=1", "TWO=y"]),
        ("1008", "env=PATH=/bin:/usr/bin\n", &["PATH=/bin:/usr/bin"]),
        ("1009", "env=ON\nenv=ONEX\n", &[PATH]),
    ];
    for (seconds, lines, _) in table {
        going.write(seconds, format!("cmd=sleep {seconds}\n{lines}"));
    }
    going.start_with(|command| {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("ONE", "1").env("TWO", "a=b");
    });
    for (seconds, lines, expected) in table {
        assert_eq!(environment_of(&going, seconds), expected, "{lines}");
    }
    going.terminate();
}

/// 4095 variables are the limit.
fn as_much_environment_as_the_limit_allows() {
    let mut going = Going::new();
    going.write("all", "cmd=sleep 1001\nenv=*\n");
    going.write("more", "cmd=sleep 1002\nenv=*\nenv=MORE=x\n");
    going.start_with(|command| {
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.envs((1..4095).map(|number| (format!("V{number}"), "x")));
    });
    assert_eq!(environment_of(&going, "1001").len(), 4095);
    going.wait_log("more: exited 111 after ");
    going.terminate();
}

fn more_environment_than_fits_is_reported() {
    let mut going = Going::new();
    going.write("all", "cmd=sleep 1001\nenv=*\n");
    going.write("none", "cmd=sleep 1002\n");
    going.start_with(|command| {
        command.envs((0..4100).map(|number| (format!("V{number}"), "x")));
    });
    going.wait_log("all: unable to take over the environment for all: more than 4095 variables");
    going.wait_log("all: exited 111 after ");
    assert_eq!(environment_of(&going, "1002"), [PATH]);
    going.terminate();
}

/// The container's environment is meant for the services, including its PATH.
fn pid_1_of_a_container_hands_its_environment_on() {
    let mut going = Going::new();
    going.write("1001", "cmd=sleep 1001\n");
    going.write("1002", "cmd=sleep 1002\nuser=0\nenv=ONE=x\nenv=PATH=/bin\n");
    going.start_as_pid_1(|command| {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("ONE", "1").env("HOME", "/strange");
    });
    let plain = environment_of(&going, "1001");
    assert_eq!(sorted(plain), ["HOME=/strange", "ONE=1", "PATH=/usr/bin:/bin"]);
    let own = environment_of(&going, "1002");
    let expected = ["HOME=/root", "LOGNAME=root", "ONE=x", "PATH=/bin"];
    let own: Vec<_> = sorted(own).into_iter().filter(|entry| entry.len() < 40).collect();
    assert_eq!(own[..4], expected);
    // PWR ends a container, USR1 does not.
    going.signal(Signal::SIGUSR1);
    going.rescan();
    going.signal(Signal::SIGPWR);
    assert!(going.wait_exit().success(), "{}", going.report());
}

fn sorted(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words
}

/// The new root is the scenario's directory, which has the program in it.
fn chroot_comes_before_cwd_and_path() {
    let mut going = Going::new();
    going.open_to_everybody();
    let root = going.path("");
    let settings = format!("chroot={}\ncwd=/records\nenv=PATH=/nowhere:/\n", root.display());
    going.write("web", format!("cmd=service service pause web\n{settings}"));
    going.start();
    let pid = going.wait_child("web", |words| words == ["service", "service", "pause", "web"]);
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).expect("it runs");
    assert_eq!(link("root"), root.canonicalize().expect("it is there"));
    assert_eq!(link("cwd"), going.path("records"));
    // Descriptors that were opened before lead outside, as they should.
    assert_eq!(link("fd/0"), Path::new("/dev/null"));
    going.terminate();
}

/// The new root has another account of the same name, and no directory for the log.
fn accounts_and_log_come_before_chroot() {
    let mut going = Going::new();
    let passwd = "web:x:300:400::/home:/bin/sh\n";
    let accounts = Accounts::new(&going, passwd, "web:x:400:\nstaff:x:50:web\n");
    going.open_to_everybody();
    let (root, log) = (going.path("records"), going.path("web.log"));
    fs::create_dir(root.join("etc")).expect("a directory");
    fs::write(root.join("etc/passwd"), "web:x:301:401::/:/bin/sh\n").expect("a file");
    fs::write(root.join("etc/group"), "staff:x:51:web\n").expect("a file");
    install_program(&going.path("service"), &root.join("service"));
    let settings = format!("chroot={}\nuser=web\nlog={}\n", root.display(), log.display());
    going.write("web", format!("cmd=/service service pause web\n{settings}"));
    going.start_with(|command| accounts.put_in(command));
    let pid = going.wait_child("web", |words| words == ["/service", "service", "pause", "web"]);
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).expect("it runs");
    assert_eq!(link("root"), root.canonicalize().expect("it is there"));
    let found = ["Uid", "Gid", "Groups"].map(|field| proc::status(pid, field));
    assert_eq!(found, identity(300, 400, "50 400"));
    assert_eq!([link("fd/1"), link("fd/2")], [log.clone(), log]);
    going.terminate();
}

fn failures_inside_a_chroot_are_reported() {
    let mut going = Going::new();
    going.open_to_everybody();
    let root = going.path("");
    let root = root.display();
    for (name, settings) in [
        ("cmd", format!("cmd=/bin/sh\nchroot={root}\n")),
        ("cwd", format!("cmd=/service\nchroot={root}\ncwd=/usr\n")),
        ("root", "cmd=/service\nchroot=/nonexistent\n".into()),
        ("file", "cmd=/service\nchroot=/etc/passwd\n".into()),
    ] {
        going.write(name, settings);
    }
    going.start();
    let nothing = "No such file or directory";
    going.wait_log(&format!("cmd: unable to execute /bin/sh: {nothing}"));
    going.wait_log("cmd: exited 127 after ");
    going.wait_log(&format!("cwd: unable to change to /usr: {nothing}"));
    going.wait_log("cwd: exited 111 after ");
    going.wait_log(&format!("root: unable to change the root to /nonexistent: {nothing}"));
    going.wait_log("file: unable to change the root to /etc/passwd: Not a directory");
    going.terminate();
}

/// Otherwise a user who may write there would get all messages of going from then on.
fn a_syslog_inside_a_chroot_hears_nothing() {
    let mut going = Going::new();
    fs::create_dir_all(going.path("jail/dev")).expect("a directory");
    let jail = UnixDatagram::bind(going.path("jail/dev/log")).expect("a new socket");
    jail.set_nonblocking(true).expect("a socket");
    let root = going.path("jail").display().to_string();
    going.write("web", format!("cmd=/nonexistent\nchroot={root}\n"));
    going.start();
    going.wait_log("web: unable to execute /nonexistent: No such file or directory");
    going.wait_log("web: exited 127 after ");
    going.rescan();
    assert!(jail.recv(&mut [0; 100]).is_err(), "{}", going.report());
    going.terminate();
}

/// Starts a service for each line of settings; returns the identity of each.
fn identities<const N: usize>(
    going: &mut Going,
    accounts: &Accounts,
    settings: [&str; N],
) -> [[String; 3]; N] {
    for (settings, seconds) in settings.into_iter().zip(1001..) {
        going.write(&seconds.to_string(), format!("cmd=sleep {seconds}\n{settings}\n"));
    }
    going.start_with(|command| accounts.put_in(command));
    let mut seconds = 1000;
    settings.map(|_| {
        seconds += 1;
        let seconds = seconds.to_string();
        let pid = going.wait_child(&seconds, |words| words == ["sleep", &seconds]);
        ["Uid", "Gid", "Groups"].map(|field| proc::status(pid, field))
    })
}

fn identity(uid: u32, gid: u32, groups: &str) -> [String; 3] {
    [four(uid), four(gid), groups.to_owned()]
}

fn accounts_by_name_and_by_number() {
    let mut going = Going::new();
    let passwd = "# no account\nroot:x:0:0:root:/root:/bin/sh\nshort:x:1\nweb:x:300:400:::\n\
                  twice:x:301:401::/:/bin/sh\ntwice:x:999:999::/:/bin/sh\n12:x:500:501::/:\n";
    let group = "root:x:0:\nweb:x:400:\nbad:x:y:web\nstaff:x:50:root,web\nmore:x:51:webx,web,web\n\
                 50:x:52:\nno:x:53:xweb,we\nstaff:x:54:\n";
    let accounts = Accounts::new(&going, passwd, group);
    let settings = [
        "user=web",
        "user=300",
        "user=web\ngroup=staff",
        "user=web\ngroup=50",
        "user=1234\ngroup=5678",
        "user=twice",
        // A number is a number, even if there is an account with that name.
        "user=12\ngroup=13",
        "user=root",
        "user=0300",
    ];
    let found = identities(&mut going, &accounts, settings);
    assert_eq!(found[0], identity(300, 400, "50 51 400"));
    assert_eq!(found[1], found[0]);
    assert_eq!(found[2], identity(300, 50, "50 51"));
    assert_eq!(found[3], found[2]);
    assert_eq!(found[4], identity(1234, 5678, "5678"));
    assert_eq!(found[5], identity(301, 401, "401"));
    assert_eq!(found[6], identity(12, 13, "13"));
    assert_eq!(found[7], identity(0, 0, "0 50"));
    assert_eq!(found[8], found[0]);
    going.terminate();
}

/// No other account is used instead, least of all root.
fn missing_accounts_are_reported() {
    let mut going = Going::new();
    let passwd = "root:x:0:0::/root:/bin/sh\nbad:x:y:0::/:/bin/sh\nempty:x::0::/:/bin/sh\n\
                  nogid:x:1::::\nhuge:x:4294967296:0::/:\nnobody:x:4294967295:0::/:\nshort:x:1:1\n";
    let accounts = Accounts::new(&going, passwd, "root:x:0:\nbad:x:y:\nempty:x::\n");
    let users = ["web", "bad", "empty", "nogid", "huge", "nobody", "short", "4294967295"];
    let mut expected = Vec::new();
    for (user, name) in users.into_iter().zip('a'..) {
        going.write(&name.to_string(), going.cmd("hold", "x", &[]) + "user=" + user);
        expected.push(format!("{name}: unable to find user {user}: not in /etc/passwd"));
    }
    for (group, name) in ["web", "bad", "empty"].into_iter().zip('p'..) {
        going.write(&name.to_string(), going.cmd("hold", "x", &[]) + "group=" + group);
        expected.push(format!("{name}: unable to find group {group}: not in /etc/group"));
    }
    going.write("number", going.cmd("hold", "x", &[]) + "user=1234");
    expected.push("number: unable to find the group of user 1234: ".into());
    going.start_with(|command| accounts.put_in(command));
    for line in expected {
        going.wait_log(&line);
        let (name, _) = line.split_once(':').expect("a name");
        going.wait_log(&format!("{name}: exited 111 after "));
    }
    assert_eq!(going.starts("x"), []);
    going.terminate();
}

/// Lines longer than any buffer: those that matter, and others before and between them; 60 groups.
fn long_lines_and_many_groups() {
    use std::fmt::Write;
    let mut going = Going::new();
    let long = "l".repeat(100_000);
    let passwd =
        format!("{long}:x:1:1:::\nweb:x:300:400:{long}:/home:/bin/sh\n{long}web:x:2:2:::\n");
    let members = "somebody,".repeat(20_000);
    let mut group = format!("big:x:70:{members}web,{members}\n{long}:x:71:{long},web\n");
    for number in 100..160 {
        writeln!(group, "g{number}:x:{number}:a,web").expect("a string");
    }
    let accounts = Accounts::new(&going, &passwd, &group);
    let [found] = identities(&mut going, &accounts, ["user=web"]);
    let numbers = [70, 71].into_iter().chain(100..160).chain([400]);
    let groups = numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(found, identity(300, 400, &groups));
    going.terminate();
}

/// 256 bytes; a longer field counts as empty.
fn fields_as_long_as_the_limit_allows() {
    let mut going = Going::new();
    let most = "l".repeat(255);
    let longer = format!("longer:x:301:400::/l{most}:/l{most}\n");
    let passwd = format!("{longer}n{most}:x:300:400::/{most}:/{most}\n");
    let accounts = Accounts::new(&going, &passwd, "");
    identities(&mut going, &accounts, ["user=300", "user=longer"]);
    let name = format!("n{most}");
    let fields = |name: &str, home: &str, shell: &str| {
        [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)]
            .map(|(name, value)| format!("{name}={value}"))
    };
    let path = format!("/{most}");
    assert_eq!(environment_of(&going, "1001")[1..], fields(&name, &path, &path));
    assert_eq!(environment_of(&going, "1002")[1..], fields("longer", "", "/bin/sh"));
    going.terminate();
}

/// The limit is 1024 groups, the user's own included.
fn as_many_groups_as_the_limit_allows() {
    use std::fmt::Write;
    let mut going = Going::new();
    let mut group = String::new();
    let members = std::iter::repeat_n("all,more,most,root", 1023);
    let members = members.chain(["more,most,root", "most"]);
    for (members, number) in members.zip(1000..) {
        writeln!(group, "g{number}:x:{number}:{members}").expect("a string");
    }
    let users = ["all", "more", "most", "root"];
    let passwd = users.map(|name| format!("{name}:x:300:400::/:\n")).concat();
    let passwd = format!("root:x:0:0::/:\n{passwd}");
    let accounts = Accounts::new(&going, &passwd, &group);
    for name in &users[1..] {
        going.write(name, going.cmd("hold", "x", &[]) + "user=" + name);
    }
    let [[_, _, groups]] = identities(&mut going, &accounts, ["user=all"]);
    assert_eq!(groups.split(' ').count(), 1024, "{groups}");
    going.wait_log("more: unable to change the user of more: Argument list too long");
    // The same if going is that user already.
    going.wait_log("root: unable to change the user of root: Argument list too long");
    going.wait_log("most: unable to read /etc/group for user most: Argument list too long");
    assert_eq!(going.starts("x"), []);
    going.terminate();
}

/// The supplementary groups stay those of going.
fn a_group_alone_changes_no_other() {
    let mut going = Going::new();
    let accounts = Accounts::new(&going, "root:x:0:0::/:\n", "staff:x:50:root\n");
    going.write("web", "cmd=sleep 1000\ngroup=staff\n");
    going.start_with(|command| {
        accounts.put_in(command);
        let join = || Ok(setgroups(&[60, 70].map(Gid::from_raw))?);
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(join) };
    });
    let pid = going.wait_child("web", is_sleep);
    let found = ["Uid", "Gid", "Groups"].map(|field| proc::status(pid, field));
    assert_eq!(found, identity(0, 50, "60 70"));
    going.terminate();
}

fn a_file_without_a_final_newline() {
    let mut going = Going::new();
    let accounts = Accounts::new(&going, "web:x:300:400::/home:/bin/last", "g:x:50:a,web");
    let [found] = identities(&mut going, &accounts, ["user=web"]);
    assert_eq!(found, identity(300, 400, "50 400"));
    assert_eq!(environment_of(&going, "1001").last().map(String::as_str), Some("SHELL=/bin/last"));
    going.terminate();
}

fn an_account_that_appears_later() {
    let mut going = Going::new();
    let accounts = Accounts::new(&going, "root:x:0:0::/root:/bin/sh\n", "root:x:0:\n");
    going.write("web", "cmd=sleep 1000\nuser=web\n");
    going.start_with(|command| accounts.put_in(command));
    going.wait_log("web: unable to find user web: not in /etc/passwd");
    going.wait_log("web: exited 111 after ");
    fs::write(&accounts.passwd, "web:x:300:400::/:/bin/sh\n").expect("a file");
    let pid = going.wait_child("web", is_sleep);
    assert_eq!(proc::status(pid, "Uid"), four(300));
    going.terminate();
}

/// Mounts an empty /etc, for this process and its descendants only.
fn empty_etc() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&Path>;
    mount(nothing, c"/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    Ok(mount(nothing, c"/etc", Some(c"tmpfs"), MsFlags::empty(), nothing)?)
}

/// A container of one program has no /etc/passwd. Numbers work all the same.
fn without_a_passwd_numbers_do() {
    let mut going = Going::new();
    going.write("web", "cmd=sleep 1000\nuser=300\ngroup=400\n");
    going.write("named", "cmd=sleep 1000\nuser=web\n");
    going.start_with(|command| {
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(empty_etc) };
    });
    going.wait_log("named: unable to find user web: not in /etc/passwd");
    let pid = going.wait_child("web", is_sleep);
    assert_eq!(["Uid", "Gid"].map(|field| proc::status(pid, field)), [four(300), four(400)]);
    going.terminate();
}

/// A file that cannot be read is not the same as none.
fn unreadable_accounts_are_reported() {
    let mut going = Going::new();
    for (name, settings) in [("user", "user=300\ngroup=400"), ("group", "group=staff")] {
        going.write(name, going.cmd("hold", "x", &[]) + settings);
    }
    going.start_with(|command| {
        let hide = || {
            empty_etc()?;
            symlink("passwd", "/etc/passwd")?;
            fs::create_dir("/etc/group")
        };
        // SAFETY: between fork and exec it calls the kernel only.
        unsafe { command.pre_exec(hide) };
    });
    going.wait_log("user: unable to read /etc/passwd for user 300: Symbolic link loop");
    going.wait_log("group: unable to read /etc/group for group staff: Is a directory");
    for name in ["user", "group"] {
        going.wait_log(&format!("{name}: exited 111 after "));
    }
    assert_eq!(going.starts("x"), []);
    going.terminate();
}

/// An empty name must not match an empty list of members; a name that is too long counts as empty.
fn a_user_without_a_name_is_in_no_group() {
    let mut going = Going::new();
    let passwd = format!(":x:300:400::/:/bin/sh\n{}:x:301:400::/:/bin/sh\n", "l".repeat(300));
    let accounts = Accounts::new(&going, &passwd, "root:x:0:\ndisk:x:6:\nlast:x:60:,\n");
    let found = identities(&mut going, &accounts, ["user=300", "user=301"]);
    assert_eq!(found, [identity(300, 400, "400"), identity(301, 400, "400")]);
    going.terminate();
}

/// What only root may do fails with EPERM and a message, and nothing starts as another user.
fn without_root_no_user_is_changed() {
    let mut going = Going::new();
    going.open_to_everybody();
    for (name, settings) in [("user", "user=1234\ngroup=1234"), ("group", "group=1234")] {
        going.write(name, going.cmd("hold", "x", &[]) + settings);
    }
    going.write("root", format!("{}chroot=/\n", going.cmd("hold", "x", &[])));
    going.hold("web");
    going.start_with(|command| run_by(command, 12_345));
    going.up("web");
    going.wait_log("user: unable to change the user of user: Operation not permitted");
    going.wait_log("group: unable to change the user of group: Operation not permitted");
    going.wait_log("root: unable to change the root to /: Operation not permitted");
    for name in ["user", "group", "root"] {
        going.wait_log(&format!("{name}: exited 111 after "));
    }
    assert_eq!(going.starts("x"), []);
    going.terminate();
}

/// As without CAP_SETGID: the service would run as another user, with root's groups.
fn a_user_is_not_changed_if_the_groups_cannot_be() {
    let mut going = Going::new();
    let accounts = Accounts::new(&going, "root:x:0:0::/:\n", "");
    going.open_to_everybody();
    for (name, settings) in [("user", "user=12345\ngroup=0"), ("group", "user=0\ngroup=5678")] {
        going.write(name, going.cmd("hold", "x", &[]) + settings);
    }
    going.start_with(|command| {
        accounts.put_in(command);
        refuse(command, libc::SYS_setgroups, 0, 1, libc::EPERM);
    });
    for name in ["user", "group"] {
        let text = format!("{name}: unable to change the user of {name}: Operation not permitted");
        going.wait_log(&text);
        going.wait_log(&format!("{name}: exited 111 after "));
    }
    assert_eq!(going.starts("x"), []);
    going.terminate();
}

/// As in a container that is run by the same user that its service files name.
fn staying_the_same_user_needs_no_root() {
    let mut going = Going::new();
    going.open_to_everybody();
    let settings =
        [("same", "12345", "12345"), ("user", "1234", "12345"), ("group", "12345", "1234")];
    for (name, user, group) in settings {
        let settings = format!("user={user}\ngroup={group}\n");
        going.write(name, going.cmd("hold", name, &[]) + &settings);
    }
    going.start_with(|command| run_by(command, 12_345));
    let pid = going.up("same");
    assert_eq!(["Uid", "Gid"].map(|field| proc::status(pid, field)), [four(12_345), four(12_345)]);
    for name in ["user", "group"] {
        let name = format!("{name}: unable to change the user of {name}: ");
        going.wait_log(&(name + "Operation not permitted"));
    }
    assert_eq!(["user", "group"].map(|name| going.starts(name).len()), [0, 0]);
    going.terminate();
}

/// The owner of the directory that contains `cwd` can put a link there. What the link leads to
/// stays closed to him, even if everything below it is open to everybody.
fn a_link_in_the_place_of_cwd_leads_nowhere_new() {
    let mut going = Going::new();
    going.open_to_everybody();
    let [closed, open] = ["closed", "closed/open"].map(|name| going.path(name));
    for (path, mode) in [(&closed, 0o700), (&open, 0o755)] {
        fs::create_dir(path).expect("a new directory");
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, mode).expect("our own directory");
    }
    let own = going.path("own");
    fs::create_dir(&own).expect("a new directory");
    chown(&own, Some(12_345), Some(12_345)).expect("we are root");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("we are root");
    let link = going.path("link");
    symlink(&open, &link).expect("a new link");
    for (name, path) in [("own", &own), ("link", &link)] {
        let settings = format!("user=12345\ngroup=12345\ncwd={}\n", path.display());
        going.write(name, going.cmd("hold", name, &[]) + &settings);
    }
    going.start();
    going.up("own");
    let text = format!("link: unable to change to {}: Permission denied", link.display());
    going.wait_log(&text);
    going.wait_log("link: exited 111 after ");
    assert_eq!(going.starts("link"), []);
    going.terminate();
}
