//! Parses RUNDIR/status: the counterpart of `going::model::status`, which describes the format.
//!
//! Never rejects a line for its fields: those of a later version are kept as they are, and one that
//! is missing or makes no sense is none. A line without a name is not a service.

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Exited(u8),
    Killed(u8),
    /// In a form that this version does not know.
    Other(String),
}

impl End {
    pub fn exit_code(&self) -> Option<u8> {
        if let Self::Exited(code) = self { Some(*code) } else { None }
    }

    pub fn signal(&self) -> Option<u8> {
        if let Self::Killed(signal) = self { Some(*signal) } else { None }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: String,
    /// `-` if it is missing.
    pub state: String,
    pub pid: Option<i32>,
    pub since_ms: Option<u64>,
    pub starts: Option<u64>,
    pub end: Option<End>,
    pub next_ms: Option<u64>,
    /// Fields that a later version has added.
    pub extra: Vec<String>,
    /// Whether a file in RUNDIR/down holds it down.
    pub held: bool,
}

impl Service {
    pub fn decode(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut next = || fields.next().filter(|field| !field.is_empty() && *field != "-");
        Some(Self {
            name: next()?.to_owned(),
            state: next().unwrap_or("-").to_owned(),
            pid: next().and_then(pid),
            since_ms: next().and_then(|ms| ms.parse().ok()),
            starts: next().and_then(|starts| starts.parse().ok()),
            end: next().map(end),
            next_ms: next().and_then(|ms| ms.parse().ok()),
            extra: fields.map(str::to_owned).collect(),
            held: false,
        })
    }

    pub fn is_up(&self) -> bool {
        self.state == "up"
    }

    /// Whether it needs no attention: a service that is done has done its work, and one that is
    /// held down is not wanted.
    pub fn is_fine(&self) -> bool {
        self.held || self.is_up() || self.state == "done"
    }

    /// The number of starts after the first one.
    pub fn restarts(&self) -> Option<u64> {
        self.starts.map(|starts| starts.saturating_sub(1))
    }
}

/// All that going says about itself and its services.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The version of the format.
    pub version: String,
    /// The PID of going.
    pub pid: Option<i32>,
    pub since_ms: Option<u64>,
    /// Sorted by name.
    pub services: Vec<Service>,
}

impl Status {
    /// None if this is not a status of going.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut header = lines.next()?.split(' ');
        if header.next() != Some("going") {
            return None;
        }
        let version = header.next()?.to_owned();
        let pid = header.next().and_then(pid);
        let since_ms = header.next().and_then(|ms| ms.parse().ok());
        let mut services: Vec<_> = lines.filter_map(Service::decode).collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        Some(Self { version, pid, since_ms, services })
    }

    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}

/// Zero and negative numbers mean something else to kill(2).
fn pid(field: &str) -> Option<i32> {
    field.parse().ok().filter(|pid| *pid > 0)
}

fn end(field: &str) -> End {
    let (kind, number) = field.split_once(':').unwrap_or_default();
    match (kind, number.parse()) {
        ("exit", Ok(code)) => End::Exited(code),
        ("signal", Ok(signal)) => End::Killed(signal),
        _ => End::Other(field.to_owned()),
    }
}
