//! `goingctl import` and `export`: Procfiles as they are found in the field.

use crate::goingctl::{ABSENT, FAILED, OK, Ran, command, ctl_to, give_to_others, ownership};
use crate::harness::{Going, refuse};
use crate::needs::scenario;
use libtest_mimic::Trial;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2, write};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::thread;

pub fn tests() -> Vec<Trial> {
    vec![
        scenario!(a_procfile_becomes_service_files),
        scenario!(a_shell_is_used_where_it_is_needed),
        scenario!(formation_and_ports_are_those_of_foreman),
        scenario!(variables_are_read_as_foreman_does),
        scenario!(unclosed_quotes_are_reported),
        scenario!(carriage_returns_and_comments_are_no_part),
        scenario!(what_no_service_file_can_say_is_refused),
        scenario!(import_overwrites_nothing_unasked),
        scenario!(import_overwrites_nothing_that_has_just_come),
        scenario!(an_overwritten_file_keeps_its_owner, Root),
        scenario!(import_leaves_links_and_devices_what_they_are),
        scenario!(no_value_becomes_another_line),
        scenario!(what_is_found_beside_a_procfile_is_not_waited_for),
        scenario!(import_has_limits),
        scenario!(import_warns_of_another_formation),
        scenario!(an_imported_app_runs),
        scenario!(there_and_back_is_the_same),
        scenario!(export_says_what_is_lost),
        scenario!(export_writes_what_import_reads),
        scenario!(export_overwrites_nothing_unasked),
        scenario!(export_writes_into_what_is_no_file),
        scenario!(export_needs_the_whole_directory),
        scenario!(exported_words_mean_the_same_to_a_shell),
    ]
}

/// An app's directory with a Procfile, and with a .env if there is an `environment`.
fn app(procfile: &str, environment: Option<&str>) -> Going {
    let going = Going::new();
    fs::create_dir(going.path("app")).expect("an empty directory");
    fs::write(going.path("app/Procfile"), procfile).expect("room on the disk");
    if let Some(environment) = environment {
        fs::write(going.path("app/.env"), environment).expect("room on the disk");
    }
    going
}

fn import(going: &Going, words: &[&str]) -> Ran {
    let mut command = command(going);
    command.arg("import").args(words).arg(going.path("app/Procfile"));
    command.output().expect("goingctl can be executed").into()
}

#[track_caller]
fn import_to(going: &Going, code: i32, words: &[&str]) -> Ran {
    let ran = import(going, words);
    assert_eq!(ran.code, code, "{words:?}: {ran:?}");
    if code == OK {
        // Checked by the daemon's own parser.
        let check = going.output(&["-n"]);
        assert!(check.status.success(), "{check:?}");
    }
    ran
}

/// The names of all service files, sorted.
fn names(going: &Going) -> Vec<String> {
    let entries = fs::read_dir(going.path("going.d")).expect("a directory").flatten();
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// All values of a key in a service file.
fn values(going: &Going, name: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(going.path("going.d").join(name)).expect("a service file");
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

fn a_procfile_becomes_service_files() {
    let going = app(
        "web: bundle exec puma -C config/puma.rb\nworker: bundle exec sidekiq -q default\n",
        Some("RAILS_ENV=production\n"),
    );
    let ran = import_to(&going, OK, &["-u", "app"]);
    assert_eq!(ran.out, "web: written\nworker: written\n");
    assert_eq!(names(&going), ["web", "worker"]);
    assert_eq!(values(&going, "web", "cmd"), ["bundle exec puma -C config/puma.rb"]);
    assert_eq!(values(&going, "web", "cwd"), [going.path("app").display().to_string()]);
    assert_eq!(values(&going, "web", "user"), ["app"]);
    assert_eq!(values(&going, "web", "env"), ["RAILS_ENV=production", "PORT=5000"]);
    assert_eq!(values(&going, "worker", "env"), ["RAILS_ENV=production", "PORT=5100"]);
    // A .env may hold passwords, so what is made of it is closed to others.
    let mode = |name: &str| {
        let stat = fs::metadata(going.path("going.d").join(name)).expect("a service file");
        stat.permissions().mode() & 0o777
    };
    assert_eq!(mode("web"), 0o600);
    fs::remove_file(going.path("app/.env")).expect("our own file");
    import_to(&going, OK, &["--force", "-d", "/srv/app"]);
    // A file that was closed to others stays closed.
    assert_eq!((values(&going, "web", "cwd"), mode("web")), (vec!["/srv/app".into()], 0o600));
    going.remove("web");
    import_to(&going, OK, &["--force"]);
    assert_eq!(mode("web"), 0o644);
}

/// One line of a Procfile, and the `cmd` that it becomes.
const COMMANDS: &[(&str, &str)] = &[
    ("node server.js", "node server.js"),
    ("java -jar target/app.jar --name 'my app'", "java -jar target/app.jar --name 'my app'"),
    ("python -c \"print('up')\"", "python -c \"print('up')\""),
    ("gunicorn app:app --log-file -", "gunicorn app:app --log-file -"),
    (
        "bin/rails server -p $PORT -e $RAILS_ENV",
        "/bin/sh -c 'exec bin/rails server -p $PORT -e $RAILS_ENV'",
    ),
    ("bundle exec puma -p ${PORT:-3000}", "/bin/sh -c 'exec bundle exec puma -p ${PORT:-3000}'"),
    ("a ${B:-$(c; d)} ${E}", "/bin/sh -c 'exec a ${B:-$(c; d)} ${E}'"),
    ("a ${B:-${C}}", "/bin/sh -c 'a ${B:-${C}}'"),
    ("a ${B}; c ${D}", "/bin/sh -c 'a ${B}; c ${D}'"),
    ("a ${B} && { c; }", "/bin/sh -c 'a ${B} && { c; }'"),
    ("cd api && npm start", "/bin/sh -c 'cd api && npm start'"),
    ("RAILS_ENV=test bin/worker", "/bin/sh -c 'RAILS_ENV=test bin/worker'"),
    ("bin/worker 2>&1", "/bin/sh -c 'exec bin/worker 2>&1'"),
    ("bin/worker 2>&1 | tee log/worker.log", "/bin/sh -c 'bin/worker 2>&1 | tee log/worker.log'"),
    ("echo it's $HOME it's", "echo it's $HOME it's"),
    ("sh -c 'echo \"$PORT\\n\"'", "sh -c 'echo \"$PORT\\n\"'"),
    ("echo \"it's $HOME\"", "/bin/sh -c \"exec echo \\\"it's $HOME\\\"\""),
    ("echo \"a \\\" b; c\" d", "echo \"a \\\" b; c\" d"),
    ("echo \"\\$5\"", "/bin/sh -c 'exec echo \"\\$5\"'"),
    ("exec bin/web", "/bin/sh -c 'exec bin/web'"),
    ("exec >log 2>&1; date", "/bin/sh -c 'exec >log 2>&1; date'"),
    ("exec 3<in; cat <&3", "/bin/sh -c 'exec 3<in; cat <&3'"),
    ("exec bin/web || echo other", "/bin/sh -c 'exec bin/web || echo other'"),
    ("exec -a name $CMD", "/bin/sh -c 'exec -a name $CMD'"),
    (
        "while true; do bin/poll; sleep 1; done",
        "/bin/sh -c 'while true; do bin/poll; sleep 1; done'",
    ),
    ("rake jobs:work[high]", "/bin/sh -c 'exec rake jobs:work[high]'"),
];

fn a_shell_is_used_where_it_is_needed() {
    let lines = COMMANDS.iter().zip(0..).map(|((line, _), number)| format!("p{number}: {line}\n"));
    let going = app(&lines.collect::<Vec<_>>().concat(), None);
    import_to(&going, OK, &[]);
    for ((line, cmd), number) in COMMANDS.iter().zip(0..) {
        assert_eq!(values(&going, &format!("p{number}"), "cmd"), [*cmd], "of {line}");
    }
}

fn formation_and_ports_are_those_of_foreman() {
    let going = app("web: a\nworker: b\nclock: c\n", Some("PORT=7000\n"));
    import_to(&going, OK, &["-m", "web=2,clock=1"]);
    assert_eq!(names(&going), ["clock", "web@1", "web@2"]);
    assert_eq!(values(&going, "web@1", "env"), ["PORT=7000"]);
    assert_eq!(values(&going, "web@2", "env"), ["PORT=7001"]);
    assert_eq!(values(&going, "clock", "env"), ["PORT=7200"]);
    let other = going.path("records").display().to_string();
    import_to(&going, OK, &["-m", "all=1, worker=3", "-p", "80", "-o", &other]);
    let text = fs::read_to_string(going.path("records/worker@3")).expect("a service file");
    assert!(text.contains("env=PORT=182\n"), "{text}");
    for formation in ["web", "web=x", "nobody=1", "web=0"] {
        import_to(&going, FAILED, &["--force", "-m", formation]);
    }
    import_to(&going, FAILED, &["--force", "-p", "65500"]);
}

fn variables_are_read_as_foreman_does() {
    let environment = "# the shop\n\nPLAIN=a b # c\nSINGLE='a \"b\" $c'\nDOUBLE=\"a \\\"b\\\" \\\\ c\"\n\
                       EMPTY=\nexport EXPORTED=x\nURL=postgres://u:p@h/db?a=b\nTWICE=1\nTWICE=2\n";
    let going = app("web: a\n", Some(environment));
    import_to(&going, OK, &[]);
    let expected = [
        "PLAIN=a b # c",
        "SINGLE=a \"b\" $c",
        "DOUBLE=a \"b\" \\ c",
        "EMPTY=",
        "EXPORTED=x",
        "URL=postgres://u:p@h/db?a=b",
        "TWICE=2",
        "PORT=5000",
    ];
    assert_eq!(values(&going, "web", "env"), expected);
    let more = going.path("app/more");
    fs::write(&more, "TWICE=3\nnonsense\n").expect("room on the disk");
    let files = format!("{},{}", going.path("app/.env").display(), more.display());
    let ran = import_to(&going, OK, &["--force", "-e", &files]);
    assert!(values(&going, "web", "env").contains(&"TWICE=3".to_owned()));
    assert!(ran.err.contains("more:2: passed over"), "{ran:?}");
    import_to(&going, FAILED, &["--force", "-e", "/does/not/exist"]);
}

/// dotenv allows comments after values, and values of several lines; foreman does not.
fn unclosed_quotes_are_reported() {
    let environment = "GOOD=\"a\"\nNONE=it's\nKEY=\"-----BEGIN\nMII==\n-----END\"\nSAID='a' # b\n";
    let going = app("web: a\n", Some(environment));
    let ran = import_to(&going, OK, &[]);
    let expected =
        ["GOOD=a", "NONE=it's", "KEY=\"-----BEGIN", "MII==", "SAID='a' # b", "PORT=5000"];
    assert_eq!(values(&going, "web", "env"), expected);
    let told: Vec<_> = ran.err.lines().filter_map(|line| line.split_once(".env:")).collect();
    let told: Vec<_> = told.into_iter().map(|(_, told)| told).collect();
    let kept = "the quote is not closed, so it is kept";
    assert_eq!(told, ["5: passed over".to_owned(), format!("3: {kept}"), format!("6: {kept}")]);
}

fn carriage_returns_and_comments_are_no_part() {
    let procfile = "# processes\r\n\r\nweb:  bin/web -v  \r\n#old: x\r\nworker:\tbin/worker\r\n\
                    not a process\r\nrelease: bin/migrate";
    let going = app(procfile, Some("A=1\r\nB=\"2\"\r\n"));
    let ran = import_to(&going, OK, &[]);
    assert_eq!(names(&going), ["release", "web", "worker"]);
    assert_eq!(values(&going, "web", "cmd"), ["bin/web -v"]);
    assert_eq!(values(&going, "worker", "cmd"), ["bin/worker"]);
    assert_eq!(values(&going, "web", "env"), ["A=1", "B=2", "PORT=5000"]);
    assert!(ran.err.contains("Procfile:6: passed over"), "{ran:?}");
    // A release phase is not a service, and foreman has a way to leave it out.
    assert!(ran.err.contains("with -m all=1,release=0 it is left out"), "{ran:?}");
    let ran = import_to(&going, OK, &["--force", "-m", "all=1,release=0"]);
    assert!(!ran.err.contains("again and again"), "{ran:?}");
}

/// If anything is refused, nothing is written.
fn what_no_service_file_can_say_is_refused() {
    let long = format!("{}: a\n", "n".repeat(33));
    let words = format!("web: a {}\n", "b ".repeat(200));
    let cases: [(&str, Option<&str>, &str); 7] = [
        ("web: a\n", Some("KEY=\"a\\nb\"\n"), "KEY"),
        ("web: a\n", Some("KEY='a '\n"), "KEY"),
        (&long, None, "too long"),
        (&words, None, "web:2"),
        ("web: a\nweb: b\n", None, "twice"),
        ("", None, "nothing"),
        ("ok: a\nweb: 'open\n", None, "ok"),
    ];
    for (procfile, environment, reason) in &cases[..6] {
        let going = app(procfile, *environment);
        let ran = import_to(&going, FAILED, &[]);
        assert!(ran.err.contains(reason), "{procfile}: {ran:?}");
        assert_eq!(names(&going), [""; 0], "{procfile}");
    }
    // An open quote is left for the shell to complain about, because no two programs agree on what
    // it means.
    let going = app(cases[6].0, None);
    import_to(&going, OK, &[]);
    assert_eq!(values(&going, "web", "cmd"), ["/bin/sh -c \"exec 'open\""]);
}

fn import_overwrites_nothing_unasked() {
    let going = app("web: a\nworker: b\n", None);
    going.write("worker", "cmd=mine\n");
    let ran = import_to(&going, FAILED, &[]);
    assert!(ran.err.contains("worker exists; --force overwrites it"), "{ran:?}");
    assert_eq!(
        (names(&going), values(&going, "worker", "cmd")),
        (vec!["worker".into()], vec!["mine".into()])
    );
    import_to(&going, OK, &["--force"]);
    assert_eq!(values(&going, "worker", "cmd"), ["b"]);
}

/// A file that appears while import writes the other ones is not overwritten.
fn import_overwrites_nothing_that_has_just_come() {
    let going = app("web: a\nworker: b\n", None);
    let (unread, written) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("a pipe");
    while write(&written, &[b'x'; 4096]).is_ok() {}
    while write(&written, b"x").is_ok() {}
    fcntl(&written, FcntlArg::F_SETFL(OFlag::empty())).expect("our own pipe");
    let mut command = command(&going);
    command.arg("import").arg(going.path("app/Procfile")).stdout(written).stderr(Stdio::piped());
    let process = command.spawn().expect("goingctl can be executed");
    drop(command);
    // Its output pipe is full, so that it blocks when it reports the first file.
    going.wait_for("the first of them", || names(&going).contains(&"web".into()));
    going.write("worker", "cmd=mine\n");
    drop(unread);
    let output = process.wait_with_output().expect("our own child");
    let ran = Ran::from(output);
    assert!(ran.code == FAILED && ran.err.ends_with("/worker: File exists\n"), "{ran:?}");
    assert_eq!(names(&going), ["web", "worker"]);
    assert_eq!(values(&going, "worker", "cmd"), ["mine"]);
}

/// An overwritten file keeps its owner, mode and access control list, except that it is closed to
/// others if there may be a password in it.
fn an_overwritten_file_keeps_its_owner() {
    let going = app("web: a\n", None);
    going.write("web", "cmd=old\n");
    let (path, procfile) = (going.path("going.d/web"), going.path("app/Procfile"));
    let acl = give_to_others(&path);
    import_to(&going, OK, &["--force"]);
    assert_eq!(values(&going, "web", "cmd"), ["a"]);
    assert_eq!(ownership(&path), (12_345, 12_346, 0o640, acl.clone()));
    assert_eq!(give_to_others(&procfile), acl);
    let words = ["export", "--force", "-o", &procfile.display().to_string()];
    ctl_to(&going, OK, &words);
    assert_eq!(ownership(&procfile), (12_345, 12_346, 0o640, acl));
    fs::write(going.path("app/.env"), "A=1\n").expect("room on the disk");
    for (before, behind) in [(0o644, 0o600), (0o440, 0o440)] {
        fs::remove_file(&path).expect("our own file");
        going.write("web", "cmd=old\n");
        fs::set_permissions(&path, Permissions::from_mode(before)).expect("our own file");
        import_to(&going, OK, &["--force"]);
        assert_eq!(ownership(&path), (0, 0, behind, Vec::new()));
    }
}

fn import_leaves_links_and_devices_what_they_are() {
    let going = app("web: a\n", None);
    let (path, real) = (going.path("going.d/web"), going.path("records/real"));
    // A dangling link counts as existing too.
    symlink(&real, &path).expect("room on the disk");
    import_to(&going, FAILED, &[]);
    assert!(!real.exists() && path.is_symlink());
    fs::write(&real, "cmd=old\n").expect("room on the disk");
    import_to(&going, OK, &["--force"]);
    assert!(path.is_symlink() && values(&going, "web", "cmd") == ["a"]);
    fs::remove_file(&real).expect("our own file");
    mkfifo(&real, Mode::S_IRWXU).expect("room on the disk");
    let ran = import_to(&going, FAILED, &["--force"]);
    assert!(ran.err.contains("not a regular file"), "{ran:?}");
    assert!(!fs::metadata(&real).expect("a FIFO").is_file());
}

/// A newline in a value must not begin another line of the service file, and the name of a
/// directory may contain one.
fn no_value_becomes_another_line() {
    let going = app("web: a\n", None);
    for words in [["-d", "/srv\nuser=root"], ["-d", "/srv "], ["-u", "app\nchroot=/"]] {
        let ran = import_to(&going, FAILED, &words);
        assert!(ran.err.contains("cannot be written in a service file"), "{ran:?}");
        assert_eq!(names(&going), [""; 0]);
    }
    let odd = going.path("app\nuser=root");
    fs::rename(going.path("app"), &odd).expect("our own directory");
    let mut command = command(&going);
    command.args(["import", "-d", "/srv"]).arg(odd.join("Procfile"));
    let ran = Ran::from(command.output().expect("goingctl can be executed"));
    assert_eq!(ran.code, OK, "{ran:?}");
    assert_eq!(values(&going, "web", "user"), [""; 0]);
}

/// A .env that import finds beside the Procfile has to be a regular file, so that nothing waits for
/// it. One that is named with -e may be anything.
fn what_is_found_beside_a_procfile_is_not_waited_for() {
    let going = app("web: sleep 1\n", None);
    let beside = going.path("app/.env");
    symlink("/dev/null", &beside).expect("room on the disk");
    assert!(import_to(&going, FAILED, &[]).err.contains("not a regular file"));
    fs::remove_file(&beside).expect("our own file");
    mkfifo(&beside, Mode::S_IRWXU).expect("room on the disk");
    assert!(import_to(&going, FAILED, &[]).err.contains("not a regular file"));
    fs::remove_file(&beside).expect("our own file");
    // A dangling link may lead to a file that we are not allowed to see, so it is an error.
    symlink("/nonexistent/env", &beside).expect("room on the disk");
    assert!(import_to(&going, FAILED, &[]).err.contains("unable to read "));
    assert!(names(&going).is_empty());
    import_to(&going, OK, &["-e", "/dev/null"]);
    assert_eq!(names(&going), ["web"]);
}

fn import_has_limits() {
    let going = app("web: a\n", Some("PORT=x\n"));
    let ran = import_to(&going, FAILED, &[]);
    assert!(ran.err.contains("not a port: x"), "{ran:?}");
    let ran = import_to(&going, FAILED, &["-p", "5000", "-m", "web=999999999"]);
    assert!(ran.err.contains("more than 256 services"), "{ran:?}");
    assert_eq!(names(&going), [""; 0]);
}

fn import_warns_of_another_formation() {
    let going = app("web: a\n", None);
    import_to(&going, OK, &[]);
    let ran = import_to(&going, OK, &["-m", "web=2"]);
    assert!(ran.err.contains("web is of another formation"), "{ran:?}");
}

/// The app runs in its own directory, with its variables, and in as many instances as asked for.
fn an_imported_app_runs() {
    let procfile =
        "web: echo \"$PORT $GREETING $(basename \"$PWD\")\" >>\"$OUT\"; exec sleep 100000\n";
    let mut going = app(procfile, None);
    let out = going.path("out");
    fs::write(going.path("app/.env"), format!("GREETING='hello \"you\"'\nOUT={}\n", out.display()))
        .expect("room on the disk");
    going.start();
    import_to(&going, OK, &["-m", "web=2"]);
    let said = || fs::read_to_string(&out).unwrap_or_default();
    going.wait_for("both of them", || said().lines().count() == 2);
    let said = said();
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["5000 hello \"you\" app", "5001 hello \"you\" app"]);
    ctl_to(&going, OK, &["stop", "web*"]);
    going.terminate();
}

fn there_and_back_is_the_same() {
    let lines =
        COMMANDS.iter().zip(0..).map(|((line, _), number)| format!("p{number:02}: {line}\n"));
    let procfile = lines.collect::<Vec<_>>().concat();
    let going = app(&procfile, Some("A=1\nB= a \"b\"\nC=\"'x\"\n"));
    import_to(&going, OK, &[]);
    let environment = going.path("env").display().to_string();
    let ran = ctl_to(&going, OK, &["export", "-e", &environment]);
    assert_eq!(ran.out, procfile);
    let text = fs::read_to_string(&environment).expect("a file");
    assert_eq!(text, "A=1\nB=\" a \\\"b\\\"\"\nC=\"'x\"\n");
    // A formation is exported as a comment, and the lines are in the order of the ports.
    let going = app("web: a\nclock: b\napi: c\n", None);
    import_to(&going, OK, &["-m", "all=1,web=3"]);
    let ran = ctl_to(&going, OK, &["export"]);
    assert_eq!(ran.out, "# formation: web=3,clock=1,api=1\nweb: a\nclock: b\napi: c\n");
    assert_eq!(ctl_to(&going, OK, &["export", "clock", "a*"]).out, "clock: b\napi: c\n");
    ctl_to(&going, ABSENT, &["export", "nobody"]);
}

fn export_says_what_is_lost() {
    let going = Going::new();
    going.write("web", "cmd=a\nuser=app\nrestart=never\nenv=HOME\n");
    let ran = ctl_to(&going, OK, &["export"]);
    assert_eq!(ran.out, "web: a\n");
    assert!(ran.err.contains("web: not in the Procfile: restart, user"), "{ran:?}");
    assert!(ran.err.contains("web: env=HOME is not in the .env"), "{ran:?}");
    going.write("db", "cmd=b\ncwd=/db\nenv=A=1\n");
    going.write("api", "cmd=b\nenv=A=2\n");
    // A Procfile stands for a single directory.
    let ran = ctl_to(&going, OK, &["export"]);
    assert!(ran.err.contains("db: not in the Procfile: cwd"), "{ran:?}");
    assert_eq!(ran.err.matches("cwd").count(), 1, "{ran:?}");
    // Nor does a Procfile have variables.
    assert!(ran.err.contains("api: not in the Procfile: env\n"), "{ran:?}");
    let environment = going.path("env").display().to_string();
    let ran = ctl_to(&going, FAILED, &["export", "-e", &environment]);
    assert!(ran.err.contains("A has another value elsewhere"), "{ran:?}");
    // A value in an older encoding must not be turned into another one.
    going.write("api", b"cmd=b\nenv=A=caf\xe9\n");
    let ran = ctl_to(&going, FAILED, &["export", "-e", &environment]);
    assert!(ran.err.contains("api: a variable that .env cannot express"), "{ran:?}");
    assert!(ctl_to(&going, OK, &["export"]).out.starts_with("api: b\n"));
    going.write("api", b"cmd=caf\xe9\n");
    let ran = ctl_to(&going, FAILED, &["export"]);
    assert!(ran.err.contains("api: its cmd cannot be expressed in a Procfile"), "{ran:?}");
}

/// Names that a service file allows, but a Procfile or a .env does not; and a variable that is set
/// twice, of which the later value counts.
fn export_writes_what_import_reads() {
    let going = Going::new();
    going.write("@1", "cmd=a\nenv=A=1\nenv=A=2\nenv=foo.bar=secret\n");
    let environment = going.path("env").display().to_string();
    let ran = ctl_to(&going, OK, &["export", "-e", &environment]);
    assert_eq!(ran.out, "-1: a\n");
    assert_eq!(fs::read_to_string(&environment).expect("a file"), "A=2\n");
    assert_eq!(ran.err, "goingctl: @1: env=foo.bar is not in the .env\n");
}

fn export_overwrites_nothing_unasked() {
    let going = app("web: old\n", None);
    going.write("web", "cmd=new\n");
    let path = going.path("app/Procfile").display().to_string();
    let ran = ctl_to(&going, FAILED, &["export", "-o", &path]);
    assert!(ran.err.contains("exists; --force overwrites it"), "{ran:?}");
    ctl_to(&going, OK, &["export", "-o", &path, "--force"]);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "web: new\n");
    // If one of two files exists, neither is written.
    let environment = going.path("env");
    let words = ["export", "-e", &environment.display().to_string(), "-o", &path];
    ctl_to(&going, FAILED, &words);
    assert!(!environment.exists());
}

/// export writes into a FIFO or a device, such as /dev/null, and never replaces it.
fn export_writes_into_what_is_no_file() {
    let going = Going::new();
    going.write("web", "cmd=a\n");
    let path = going.path("fifo");
    mkfifo(&path, Mode::S_IRWXU).expect("room on the disk");
    for words in [&[][..], &["--force"]] {
        let reader = path.clone();
        let reader = thread::spawn(move || fs::read_to_string(reader).expect("a FIFO"));
        let mut command = command(&going);
        command.arg("export").arg("-o").arg(&path).args(words);
        let ran = Ran::from(command.output().expect("goingctl can be executed"));
        assert_eq!(ran.code, OK, "{ran:?}");
        assert_eq!(reader.join().expect("no panic"), "web: a\n");
    }
}

/// Otherwise an empty Procfile would replace the old one.
fn export_needs_the_whole_directory() {
    let going = app("web: a\n", None);
    going.write("web", "cmd=new\n");
    let mut command = command(&going);
    command.args(["export", "--force", "-o"]).arg(going.path("app/Procfile"));
    let directory = 3;
    refuse(&mut command, libc::SYS_getdents64, 0, directory, libc::EIO);
    let ran = Ran::from(command.output().expect("goingctl can be executed"));
    assert!(ran.code == FAILED && ran.err.ends_with("/going.d: I/O error\n"), "{ran:?}");
    let text = fs::read_to_string(going.path("app/Procfile"));
    assert_eq!(text.expect("a file"), "web: a\n");
}

/// Words that need no shell in a service file, but that a shell would expand in a Procfile.
fn exported_words_mean_the_same_to_a_shell() {
    let going = Going::new();
    going.write("web", "cmd=printf '<%s>' 'a  b' \"it's\" '$HOME' '' * \\; plain\n");
    let ran = ctl_to(&going, OK, &["export"]);
    let line = ran.out.strip_prefix("web: ").expect("one process");
    let output = std::process::Command::new("sh").args(["-c", line]).output();
    let shown = Ran::from(output.expect("a shell"));
    assert_eq!(shown.out, "<a  b><it's><$HOME><><*><;><plain>");
}
