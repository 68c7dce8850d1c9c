//! What syslog calls a priority: facility and level in one number, see syslog(3).

/// In the order of their numbers; a number without a name has an empty one.
const FACILITIES: &str = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp     \
                          local0 local1 local2 local3 local4 local5 local6 local7";
const LEVELS: &str = "emerg alert crit err warning notice info debug";

/// The number of `FACILITY.LEVEL`.
///
/// ```
/// use going::model::priority::parse;
/// assert_eq!(parse("daemon.info"), Some(3 << 3 | 6));
/// assert_eq!(parse("local7.debug"), Some(23 << 3 | 7));
/// assert_eq!(parse("info"), None);
/// ```
pub fn parse(text: &str) -> Option<u8> {
    let number = |names: &str, name: &str| {
        names.split(' ').position(|known| known == name && !name.is_empty())
    };
    let (facility, level) = text.split_once('.')?;
    u8::try_from(number(FACILITIES, facility)? << 3 | number(LEVELS, level)?).ok()
}
