//! The command line.

use crate::output::{EXIT_USAGE, Failure};
use lexopt::prelude::{Long, Short, Value, ValueExt};
use lexopt::{Arg, Error, Parser};
use std::path::PathBuf;
use std::str::FromStr;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    Status,
    Start,
    Stop,
    Restart,
    Signal,
    Reload,
    Enable,
    Disable,
    Check,
    Edit,
    Logs,
    Import,
    Export,
    Help,
    Version,
}

/// The name of each command.
const COMMANDS: [(&str, Command); 15] = [
    ("status", Command::Status),
    ("start", Command::Start),
    ("stop", Command::Stop),
    ("restart", Command::Restart),
    ("signal", Command::Signal),
    ("reload", Command::Reload),
    ("enable", Command::Enable),
    ("disable", Command::Disable),
    ("check", Command::Check),
    ("edit", Command::Edit),
    ("logs", Command::Logs),
    ("import", Command::Import),
    ("export", Command::Export),
    ("help", Command::Help),
    ("version", Command::Version),
];

/// How a status is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    Table,
    Json,
    Prometheus,
    Watch,
}

/// All that the command line says. The options of other commands have their defaults.
#[derive(Debug)]
pub struct Options {
    pub command: Command,
    /// Whether the command line names the command; otherwise it is the default.
    pub is_named: bool,
    /// The services, or what the command takes in their place.
    pub words: Vec<String>,
    pub confdir: PathBuf,
    pub rundir: PathBuf,
    pub format: Format,
    pub timeout_ms: Option<u64>,
    pub is_waiting: bool,
    pub is_following: bool,
    pub lines: usize,
    pub environment: Option<String>,
    pub user: Option<String>,
    pub cwd: Option<PathBuf>,
    pub output: Option<PathBuf>,
    pub formation: Option<String>,
    pub port: Option<u16>,
    pub is_forced: bool,
}

/// The default of `lines`.
const DEFAULT_LINES: usize = 100;

impl Options {
    fn new() -> Self {
        Self {
            command: Command::Status,
            is_named: false,
            words: Vec::new(),
            confdir: "/etc/going.d".into(),
            rundir: "/run/going".into(),
            format: Format::Table,
            timeout_ms: None,
            is_waiting: true,
            is_following: false,
            lines: DEFAULT_LINES,
            environment: None,
            user: None,
            cwd: None,
            output: None,
            formation: None,
            port: None,
            is_forced: false,
        }
    }

    /// Reads the command line.
    pub fn read() -> Result<Self, Failure> {
        Self::parse(Parser::from_env()).map_err(|error| {
            let text = format!("{error}; see \"goingctl --help\"");
            Failure::new(EXIT_USAGE, text)
        })
    }

    fn parse(mut parser: Parser) -> Result<Self, Error> {
        let mut options = Self::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => options.command = Command::Help,
                Short('V') | Long("version") => options.command = Command::Version,
                Value(word) => {
                    let word = word.string()?;
                    let named = COMMANDS.iter().find(|(name, _)| *name == word);
                    match named.filter(|_| !options.is_named && options.words.is_empty()) {
                        Some((_, command)) => {
                            options.command = *command;
                            options.is_named = true;
                        }
                        None => options.words.push(word),
                    }
                }
                Short('d') if options.command == Command::Import => {
                    options.cwd = Some(parser.value()?.into());
                }
                Short('d') => options.confdir = parser.value()?.into(),
                Short('r') => options.rundir = parser.value()?.into(),
                Short(letter) => options.take_short(letter, &mut parser)?,
                Long(word) => {
                    let word = word.to_owned();
                    options.take_long(&word, &mut parser)?;
                }
            }
            if matches!(options.command, Command::Help | Command::Version) {
                break;
            }
        }
        options.check().map(|()| options)
    }

    fn take_short(&mut self, letter: char, parser: &mut Parser) -> Result<(), Error> {
        use Command::{Export, Import, Logs, Status};
        match (letter, self.command) {
            ('w', Status) => self.format = Format::Watch,
            ('f', Logs) => self.is_following = true,
            ('n', Logs) => self.lines = number(parser, "-n")?,
            ('e', Import | Export) => self.environment = Some(parser.value()?.string()?),
            ('o', Import | Export) => self.output = Some(parser.value()?.into()),
            ('u', Import) => self.user = Some(parser.value()?.string()?),
            ('m', Import) => self.formation = Some(parser.value()?.string()?),
            ('p', Import) => self.port = Some(number(parser, "-p")?),
            _ => return Err(self.unexpected(Short(letter))),
        }
        Ok(())
    }

    fn take_long(&mut self, word: &str, parser: &mut Parser) -> Result<(), Error> {
        use Command::{Disable, Enable, Export, Import, Logs, Restart, Start, Status, Stop};
        match (word, self.command) {
            ("json", Status) => self.format = Format::Json,
            ("prometheus", Status) => self.format = Format::Prometheus,
            ("watch", Status) => self.format = Format::Watch,
            ("timeout", Start | Stop | Restart | Enable | Disable) => {
                let seconds: u32 = number(parser, "--timeout")?;
                self.timeout_ms = Some(u64::from(seconds).saturating_mul(1_000));
            }
            ("no-wait", Start | Stop | Restart | Enable | Disable) => self.is_waiting = false,
            ("follow", Logs) => self.is_following = true,
            ("force", Import | Export) => self.is_forced = true,
            _ => return Err(self.unexpected(Long(word))),
        }
        Ok(())
    }

    /// The error for an option that means nothing here.
    fn unexpected(&self, option: Arg) -> Error {
        let error = option.unexpected();
        if self.is_named {
            return error;
        }
        format!("{error}, or one that must follow its command").into()
    }

    /// Checks that there are as many words as the command takes.
    fn check(&self) -> Result<(), Error> {
        use Command::{Disable, Edit, Enable, Import, Logs, Reload, Restart, Signal, Start, Stop};
        let (least, most) = match self.command {
            Start | Stop | Restart | Reload | Enable | Disable => (1, usize::MAX),
            Signal => (2, usize::MAX),
            Edit | Logs | Import => (1, 1),
            Command::Check => (0, 1),
            _ => (0, usize::MAX),
        };
        if self.format != Format::Table && self.command != Command::Status {
            return Err("--json, --prometheus and --watch belong to status".into());
        }
        let count = self.words.len();
        let named = COMMANDS.iter().find(|(_, command)| *command == self.command);
        let name = named.map_or("", |(name, _)| name);
        match self.words.get(most) {
            Some(word) => Err(format!("{name} takes no further word: {word:?}").into()),
            None if count < least && self.command == Signal => {
                Err("signal needs a signal and a service".into())
            }
            None if count < least && self.command == Import => {
                Err("import needs a Procfile".into())
            }
            None if count < least => Err(format!("{name} needs a service").into()),
            None => Ok(()),
        }
    }
}

/// The value of an option, as a number.
fn number<T: FromStr>(parser: &mut Parser, option: &str) -> Result<T, Error> {
    let value = parser.value()?.string()?;
    value.parse().map_err(|_| format!("not a number for {option}: {value}").into())
}
