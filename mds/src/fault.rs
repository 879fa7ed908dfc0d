//! What a fail point answers: an I/O error named by its argument.

/// `EIO`, `ENOSPC`, `EDQUOT` or a number, as in `FAILPOINTS='mds::log::write=return(ENOSPC)'`;
/// anything else is `EIO`.
#[cfg_attr(
    not(feature = "failpoints"),
    expect(dead_code, reason = "only fail points call it, and they are compiled out")
)]
pub(crate) fn named(argument: Option<String>) -> std::io::Error {
    let argument = argument.unwrap_or_default();
    let number = match argument.as_str() {
        "ENOSPC" => 28,
        "EDQUOT" => 122,
        other => other.parse().unwrap_or(5),
    };
    std::io::Error::from_raw_os_error(number)
}

/// A fail point in a function that returns `io::Result`.
macro_rules! io_fault {
    ($name:literal) => {
        fail::fail_point!($name, |argument| Err(crate::fault::named(argument)));
    };
}
pub(crate) use io_fault;
