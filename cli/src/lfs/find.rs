//! `lfs find`: tests of find(1), and tests of layouts.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use clap::Args;
use nacre_client::layout_json::LayoutDoc;
use nacre_node::{Clock, SystemClock};

use super::error::LfsError;
use super::glob::glob;
use super::layout;
use super::setstripe::index_list;

/// Arguments of `lfs find`: paths, then tests, all of which must hold.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct FindArgs {
    /// Paths and tests.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PATH… TEST…")]
    words: Vec<OsString>,
}

const HELP: &str = "\
Tests take one or two dashes; `!` before one turns it round. N may be +N (more) or -N (less).
  -name PATTERN  -iname PATTERN  -path PATTERN      with * ? [ ]
  -type bcdflps  -size N[cbkMGTPE]  -empty  -links N  -perm MODE|-MODE|/MODE
  -amin -mmin -cmin N   -atime -mtime -ctime N[smhdwy]   -newer FILE
  -uid -gid N  -user -group NAME  -inum N
  -maxdepth N  -mindepth N  -print  -print0
  -ost INDICES  -stripe-count N  -stripe-size N  -stripe-index INDICES  -pool NAME
  -component-count N  -layout raid0";

/// One test.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    Name(String, Case),
    Path(String),
    Kind(Vec<char>),
    Size(Compare, u64),
    Empty,
    Links(Compare),
    Perm(PermTest),
    /// Age in units of so many seconds.
    Age(Stamp, Compare, u64),
    Newer(i128),
    Uid(Compare),
    Gid(Compare),
    Inode(Compare),
    Ost(Vec<u16>),
    StripeCount(Compare),
    StripeSize(Compare),
    StripeIndex(Vec<u16>),
    Pool(String),
    Components(Compare),
    Raid0,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Sensitive,
    Insensitive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Access,
    Modification,
    Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermTest {
    Exactly(u32),
    All(u32),
    Any(u32),
}

/// `+N`, `-N`, `N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    More(u64),
    Less(u64),
    Equal(u64),
}

impl Compare {
    fn holds(self, value: u64) -> bool {
        match self {
            Self::More(than) => value > than,
            Self::Less(than) => value < than,
            Self::Equal(to) => value == to,
        }
    }
}

#[derive(Debug, Default)]
struct Search {
    paths: Vec<PathBuf>,
    tests: Vec<(bool, Test)>,
    min_depth: usize,
    max_depth: Option<usize>,
    nul: bool,
}

/// Walks and prints.
pub(crate) fn run(args: &FindArgs) -> Result<(), LfsError> {
    if args.words.iter().any(|word| word == "--help") {
        outln!("usage: lfs find PATH… TEST…\n\n{HELP}");
        return Ok(());
    }
    let search = parse(&args.words)?;
    let mut failed = None;
    for path in &search.paths {
        walk(&search, path, 0, &mut failed)?;
    }
    failed.map_or(Ok(()), Err)
}

/// Depth first, names in order. What cannot be read is told, and the rest goes on.
fn walk(
    search: &Search,
    path: &Path,
    depth: usize,
    failed: &mut Option<LfsError>,
) -> Result<(), LfsError> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            tell(LfsError::at(path, error), failed);
            return Ok(());
        }
    };
    if depth >= search.min_depth {
        match matches(search, path, &metadata) {
            Ok(true) => {
                let mut line = path.as_os_str().as_bytes().to_vec();
                line.push(if search.nul { 0 } else { b'\n' });
                let written = std::io::stdout().write_all(&line);
                written.map_err(|error| LfsError::at(Path::new("stdout"), error))?;
            }
            Ok(false) => {}
            Err(error) => tell(error, failed),
        }
    }
    if !metadata.is_dir() || search.max_depth.is_some_and(|max| depth >= max) {
        return Ok(());
    }
    let mut children = Vec::new();
    match std::fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => children.push(entry.path()),
                    Err(error) => tell(LfsError::at(path, error), failed),
                }
            }
        }
        Err(error) => tell(LfsError::at(path, error), failed),
    }
    children.sort_unstable();
    children.iter().try_for_each(|child| walk(search, child, depth + 1, failed))
}

fn tell(error: LfsError, failed: &mut Option<LfsError>) {
    eprintln!("lfs find: {error}");
    *failed = Some(error);
}

fn matches(search: &Search, path: &Path, metadata: &Metadata) -> Result<bool, LfsError> {
    // Fetched once, and only if no test before it decided.
    let mut doc = None;
    for (wanted, test) in &search.tests {
        let holds = if let Some(holds) = plain_test(test, path, metadata)? {
            holds
        } else if metadata.is_file() || metadata.is_dir() {
            if doc.is_none() {
                doc = Some(layout::get(path)?);
            }
            doc.as_ref().is_some_and(|doc| layout_test(test, doc))
        } else {
            false
        };
        if holds != *wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A test that needs no layout; `None` for one that does.
fn plain_test(test: &Test, path: &Path, m: &Metadata) -> Result<Option<bool>, LfsError> {
    let own_name = || path.file_name().unwrap_or(path.as_os_str()).as_bytes();
    Ok(Some(match test {
        Test::Name(pattern, case) => glob(pattern.as_bytes(), own_name(), *case),
        Test::Path(pattern) => {
            glob(pattern.as_bytes(), path.as_os_str().as_bytes(), Case::Sensitive)
        }
        Test::Kind(kinds) => kinds.contains(&kind_letter(m)),
        Test::Size(compare, unit) => compare.holds(m.size().div_ceil(*unit)),
        Test::Empty if m.is_dir() => {
            let mut entries = path.read_dir().map_err(|error| LfsError::at(path, error))?;
            entries.next().is_none()
        }
        Test::Empty => m.is_file() && m.size() == 0,
        Test::Links(compare) => compare.holds(m.nlink()),
        Test::Perm(PermTest::Exactly(mode)) => m.mode() & 0o7777 == *mode,
        Test::Perm(PermTest::All(mode)) => m.mode() & mode == *mode,
        Test::Perm(PermTest::Any(mode)) => *mode == 0 || m.mode() & mode != 0,
        Test::Age(stamp, compare, unit) => {
            let then = match stamp {
                Stamp::Access => m.atime(),
                Stamp::Modification => m.mtime(),
                Stamp::Change => m.ctime(),
            };
            let age = now_seconds().saturating_sub(u64::try_from(then).unwrap_or(0));
            compare.holds(age.checked_div(*unit).unwrap_or(age))
        }
        Test::Newer(than) => nanos(m.mtime(), m.mtime_nsec()) > *than,
        Test::Uid(compare) => compare.holds(m.uid().into()),
        Test::Gid(compare) => compare.holds(m.gid().into()),
        Test::Inode(compare) => compare.holds(m.ino()),
        Test::Ost(_)
        | Test::StripeCount(_)
        | Test::StripeSize(_)
        | Test::StripeIndex(_)
        | Test::Pool(_)
        | Test::Components(_)
        | Test::Raid0 => return Ok(None),
    }))
}

fn layout_test(test: &Test, doc: &LayoutDoc) -> bool {
    // As Lustre: of a progressive layout, the last component that has objects counts.
    let last = doc.components.iter().rev().find(|component| !component.osts.is_empty());
    let component = last.or(doc.components.first());
    let count = |count: i32| u64::try_from(count).unwrap_or(u64::MAX);
    match test {
        Test::Ost(osts) => {
            doc.components.iter().flat_map(|c| &c.osts).any(|ost| osts.contains(ost))
        }
        Test::StripeCount(compare) => {
            component.is_some_and(|c| compare.holds(count(c.stripe_count)))
        }
        Test::StripeSize(compare) => component.is_some_and(|c| compare.holds(c.stripe_size)),
        Test::StripeIndex(indices) => {
            component.and_then(|c| c.osts.first()).is_some_and(|ost| indices.contains(ost))
        }
        Test::Pool(pool) => doc.components.iter().any(|c| c.pool == *pool),
        Test::Components(compare) => {
            compare.holds(u64::try_from(doc.components.len()).unwrap_or(u64::MAX))
        }
        Test::Raid0 => !doc.components.is_empty(),
        Test::Name(..)
        | Test::Path(_)
        | Test::Kind(_)
        | Test::Size(..)
        | Test::Empty
        | Test::Links(_)
        | Test::Perm(_)
        | Test::Age(..)
        | Test::Newer(_)
        | Test::Uid(_)
        | Test::Gid(_)
        | Test::Inode(_) => false,
    }
}

fn kind_letter(metadata: &Metadata) -> char {
    let kind = metadata.file_type();
    if kind.is_dir() {
        'd'
    } else if kind.is_symlink() {
        'l'
    } else if kind.is_block_device() {
        'b'
    } else if kind.is_char_device() {
        'c'
    } else if kind.is_fifo() {
        'p'
    } else if kind.is_socket() {
        's'
    } else {
        'f'
    }
}

fn now_seconds() -> u64 {
    u64::try_from(SystemClock.now().secs).unwrap_or(0)
}

fn nanos(seconds: i64, nanos: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

fn parse(words: &[OsString]) -> Result<Search, LfsError> {
    let mut search = Search::default();
    let mut words = words.iter().map(|word| word.to_string_lossy().into_owned()).peekable();
    let is_test = |word: &String| word == "!" || (word.starts_with('-') && word.len() > 1);
    while let Some(word) = words.next_if(|word| !is_test(word)) {
        search.paths.push(word.into());
    }
    if search.paths.is_empty() {
        search.paths.push(".".into());
    }
    let mut wanted = true;
    while let Some(word) = words.next() {
        if word == "!" || word == "-not" {
            wanted = !wanted;
            continue;
        }
        let key = word.trim_start_matches('-');
        match key {
            "print" | "P" => continue,
            "print0" | "0" => {
                search.nul = true;
                continue;
            }
            "empty" => {
                search.tests.push((wanted, Test::Empty));
                wanted = true;
                continue;
            }
            _ if !word.starts_with('-') => {
                let text = format!("`{word}`: paths come before tests");
                return Err(LfsError::invalid(text));
            }
            _ => {}
        }
        let value = words.next();
        let value = value.ok_or_else(|| LfsError::invalid(format!("{word} needs a value")))?;
        match key {
            "maxdepth" | "D" => search.max_depth = Some(number(&word, &value)?),
            "mindepth" => search.min_depth = number(&word, &value)?,
            _ => search.tests.push((wanted, test(&word, key, &value)?)),
        }
        wanted = true;
    }
    Ok(search)
}

fn number<T: std::str::FromStr>(word: &str, text: &str) -> Result<T, LfsError> {
    text.parse().map_err(|_| LfsError::invalid(format!("{word} {text}: expected a number")))
}

fn test(word: &str, key: &str, value: &str) -> Result<Test, LfsError> {
    let with_unit = |units: &[(char, u64)], plain| with_unit(word, value, units, plain);
    let plain_number = || with_unit(&[], 1).map(|(compare, _)| compare);
    let indices = || index_list(value).map_err(LfsError::invalid);
    let age = |stamp| {
        const DAY: u64 = 86_400;
        let units =
            [('s', 1), ('m', 60), ('h', 3600), ('d', DAY), ('w', 7 * DAY), ('y', 365 * DAY)];
        with_unit(&units, DAY).map(|(compare, unit)| Test::Age(stamp, compare, unit))
    };
    let minutes = |stamp| plain_number().map(|compare| Test::Age(stamp, compare, 60));
    match key {
        "name" | "n" => Ok(Test::Name(value.to_owned(), Case::Sensitive)),
        "iname" => Ok(Test::Name(value.to_lowercase(), Case::Insensitive)),
        "path" | "wholename" => Ok(Test::Path(value.to_owned())),
        "type" | "t" => kinds(word, value),
        "size" | "s" => {
            let units = [
                ('c', 1),
                ('b', 512),
                ('k', 1 << 10),
                ('K', 1 << 10),
                ('M', 1 << 20),
                ('G', 1 << 30),
                ('T', 1 << 40),
                ('P', 1 << 50),
                ('E', 1 << 60),
            ];
            with_unit(&units, 512).map(|(compare, unit)| Test::Size(compare, unit))
        }
        "links" => plain_number().map(Test::Links),
        "inum" => plain_number().map(Test::Inode),
        "perm" => perm(word, value),
        "atime" | "A" => age(Stamp::Access),
        "mtime" | "M" => age(Stamp::Modification),
        "ctime" | "C" => age(Stamp::Change),
        "amin" => minutes(Stamp::Access),
        "mmin" => minutes(Stamp::Modification),
        "cmin" => minutes(Stamp::Change),
        "newer" => {
            let metadata = std::fs::metadata(value);
            let metadata = metadata.map_err(|error| LfsError::at(Path::new(value), error))?;
            Ok(Test::Newer(nanos(metadata.mtime(), metadata.mtime_nsec())))
        }
        "uid" => plain_number().map(Test::Uid),
        "gid" => plain_number().map(Test::Gid),
        "user" | "u" => id_of("/etc/passwd", value).map(|id| Test::Uid(Compare::Equal(id))),
        "group" | "g" => id_of("/etc/group", value).map(|id| Test::Gid(Compare::Equal(id))),
        "ost" | "O" | "obd" => ost_list(value).map(Test::Ost),
        "stripe-count" | "stripe_count" | "c" => plain_number().map(Test::StripeCount),
        "stripe-size" | "stripe_size" | "S" => {
            let units = [('k', 1 << 10), ('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
            with_unit(&units, 1).map(|(compare, unit)| Test::StripeSize(scaled(compare, unit)))
        }
        "stripe-index" | "stripe_index" | "i" => indices().map(Test::StripeIndex),
        "pool" => Ok(Test::Pool(value.to_owned())),
        "component-count" | "comp-count" => plain_number().map(Test::Components),
        "layout" | "L" => match value {
            "raid0" => Ok(Test::Raid0),
            _ => Err(LfsError::invalid(format!("{word} {value}: expected raid0"))),
        },
        _ => Err(LfsError::invalid(format!("unknown test {word}; see lfs find --help"))),
    }
}

/// `+4M` to more, 4, a mebibyte.
fn with_unit(
    word: &str,
    text: &str,
    units: &[(char, u64)],
    plain: u64,
) -> Result<(Compare, u64), LfsError> {
    let bad = || LfsError::invalid(format!("{word} {text}: expected [+-]N and perhaps a unit"));
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let found = units.iter().find_map(|(letter, unit)| Some((rest.strip_suffix(*letter)?, *unit)));
    let (digits, unit) = found.unwrap_or((rest, plain));
    let value: u64 = digits.parse().map_err(|_| bad())?;
    let compare = match text.as_bytes().first() {
        Some(b'+') => Compare::More(value),
        Some(b'-') => Compare::Less(value),
        Some(_) | None => Compare::Equal(value),
    };
    Ok((compare, unit))
}

fn scaled(compare: Compare, unit: u64) -> Compare {
    match compare {
        Compare::More(value) => Compare::More(value.saturating_mul(unit)),
        Compare::Less(value) => Compare::Less(value.saturating_mul(unit)),
        Compare::Equal(value) => Compare::Equal(value.saturating_mul(unit)),
    }
}

fn kinds(word: &str, value: &str) -> Result<Test, LfsError> {
    let kinds: Vec<char> = value.chars().filter(|letter| *letter != ',').collect();
    if kinds.is_empty() || kinds.iter().any(|kind| !"bcdflps".contains(*kind)) {
        let text = format!("{word} {value}: expected letters of b, c, d, f, l, p, s");
        return Err(LfsError::invalid(text));
    }
    Ok(Test::Kind(kinds))
}

fn perm(word: &str, value: &str) -> Result<Test, LfsError> {
    let digits = value.strip_prefix(['-', '/']).unwrap_or(value);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
    let bad = || LfsError::invalid(format!("{word} {value}: expected an octal mode"));
    let mode = mode.ok_or_else(bad)?;
    Ok(Test::Perm(match value.as_bytes().first() {
        Some(b'-') => PermTest::All(mode),
        Some(b'/') => PermTest::Any(mode),
        Some(_) | None => PermTest::Exactly(mode),
    }))
}

/// `0,2-4`, or names such as `nacre-OST0002_UUID`.
fn ost_list(value: &str) -> Result<Vec<u16>, LfsError> {
    let mut osts = Vec::new();
    for part in value.split(',') {
        let name = part.strip_suffix("_UUID").unwrap_or(part);
        let own = name.rsplit_once('-').map(|(_, own)| own).filter(|own| own.starts_with("OST"));
        let name = own.unwrap_or(name);
        match name.strip_prefix("OST").map(|hex| u16::from_str_radix(hex, 16)) {
            Some(Ok(index)) => osts.push(index),
            Some(Err(_)) => {
                return Err(LfsError::invalid(format!("`{part}` is not the name of an OST")));
            }
            None => osts.extend(index_list(part).map_err(LfsError::invalid)?),
        }
    }
    Ok(osts)
}

/// The number of a user or group: field 3 of the line that begins with the name.
fn id_of(file: &str, name: &str) -> Result<u64, LfsError> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let text = std::fs::read_to_string(file).map_err(|e| LfsError::at(Path::new(file), e))?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() == Some(name) { fields.nth(1)?.parse().ok() } else { None }
    });
    found.ok_or_else(|| LfsError::invalid(format!("`{name}` is not in {file}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_read_with_signs_units_and_negation() {
        let words =
            ["/m", "-type", "f", "!", "--size", "+4M", "-maxdepth", "2", "--stripe-count", "-3"];
        let search = parse(&words.map(OsString::from)).unwrap();
        assert_eq!(search.paths, [Path::new("/m")]);
        assert_eq!(search.max_depth, Some(2));
        assert_eq!(
            search.tests,
            [
                (true, Test::Kind(vec!['f'])),
                (false, Test::Size(Compare::More(4), 1 << 20)),
                (true, Test::StripeCount(Compare::Less(3))),
            ]
        );
        for bad in [&["-colour", "x"][..], &["-type", "q"], &["-size"], &["-size", "x"]] {
            let words: Vec<OsString> = bad.iter().map(OsString::from).collect();
            assert!(parse(&words).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_tree_is_searched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a.txt"), vec![0; 3000]).unwrap();
        let metadata = dir.path().join("sub/a.txt").symlink_metadata().unwrap();
        let holds = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let search = parse(&words).unwrap();
            matches(&search, &dir.path().join("sub/a.txt"), &metadata).unwrap()
        };
        assert!(holds(&["-name", "*.txt", "-type", "f", "-size", "3k", "-mtime", "-1"]));
        assert!(!holds(&["-name", "*.txt", "!", "-type", "f"]));
        assert!(holds(&["-iname", "A.*", "-size", "+5b"]));
        assert!(!holds(&["-empty"]));
    }
}
