//! Settings: a TOML file, over it the environment, over that flags.
//!
//! One file serves every daemon and the mount; each reads its own sections. The environment
//! variable of `[oss] io_threads` is `NACRE_OSS_IO_THREADS`; the flag is
//! `--set oss.io_threads=32`. A key that nobody knows is an error that names it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

/// All settings. Everything has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Every daemon.
    pub server: ServerSettings,
    /// Logs and metrics.
    pub telemetry: TelemetrySettings,
    /// The management server.
    pub mgs: MgsSettings,
    /// The metadata server.
    pub mds: MdsSettings,
    /// The object storage server.
    pub oss: OssSettings,
    /// The mount.
    pub client: ClientSettings,
}

/// `[server]`: every daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// `host:port` to listen on; empty: the daemon's default port on all addresses.
    pub listen: String,
    /// What peers are told, `host:port`; empty: the address listened on, or this host's name if
    /// that is all addresses.
    pub advertise: Vec<String>,
    /// Threads of the runtime; 0: one for two cores.
    pub threads: u16,
}

/// `[telemetry]`: logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// What is logged: a level, or directives such as `info,nacre_mds=debug`.
    pub log: String,
    /// `host:port` that serves `/metrics`, `/healthz` and `/readyz` over HTTP; empty: none.
    pub http: String,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        // h2 warns of its own bookkeeping of reset streams, which harms nothing.
        Self { log: "info,h2=error".to_owned(), http: String::new() }
    }
}

/// `[mgs]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MgsSettings {
    /// `scratch` or `persistent`.
    pub deployment: String,
}

impl Default for MgsSettings {
    fn default() -> Self {
        Self { deployment: "scratch".to_owned() }
    }
}

/// `[mds]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MdsSettings {
    /// Budget of the store's cache.
    pub store_cache_bytes: Size,
    /// Files up to this size live in their inode; 0: none do.
    pub inline_bytes_max: Size,
    /// A client that is silent for so long is evicted: its locks and open files are gone.
    pub lease_seconds: u64,
    /// Between two listings of a linked bucket, from which changes there are imported.
    pub sweep_seconds: u64,
}

impl Default for MdsSettings {
    fn default() -> Self {
        Self {
            store_cache_bytes: Size(64 << 20),
            inline_bytes_max: Size(16 << 10),
            lease_seconds: 10,
            sweep_seconds: 60,
        }
    }
}

/// `[oss]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OssSettings {
    /// Disk calls at one time, for each OST.
    pub io_threads: u16,
    /// Bytes that the scrub verifies each second, for each OST; 0: no scrub.
    pub scrub_bytes_per_second: Size,
}

impl Default for OssSettings {
    fn default() -> Self {
        Self { io_threads: 16, scrub_bytes_per_second: Size(0) }
    }
}

/// `[client]`: the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientSettings {
    /// Most bytes written and not yet sent.
    pub dirty_bytes_max: Size,
    /// Most bytes sent and not yet on a disk, kept to be sent again.
    pub retained_bytes_max: Size,
    /// Most bytes read ahead, over all files.
    pub readahead_bytes_max: Size,
    /// Bytes of one object read or write.
    pub rpc_bytes: Size,
    /// How long an operation waits for a metadata server that does not answer.
    pub mds_deadline_seconds: u64,
    /// How long an object server may be silent before its data gives EIO.
    pub ost_deadline_seconds: u64,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            dirty_bytes_max: Size(64 << 20),
            retained_bytes_max: Size(64 << 20),
            readahead_bytes_max: Size(64 << 20),
            rpc_bytes: Size(1 << 20),
            mds_deadline_seconds: 120,
            ost_deadline_seconds: 4,
        }
    }
}

/// A number of bytes; in text also with a unit: `64KiB`, `1G`. Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: expected a number with an optional K, M, G, T, P or E")]
pub struct BadSize(pub String);

impl std::str::FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = unit.trim_start().to_ascii_uppercase();
        let letter = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
        let shift = match letter {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            "P" => 50,
            "E" => 60,
            _ => return Err(bad()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"64MiB\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
                u64::try_from(value)
                    .map(Size)
                    .map_err(|_| E::custom(format!("{value} is not a number of bytes")))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Size, E> {
                Ok(Size(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Size, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layer says something that is not a setting, or not of its kind.
    #[error("{from}: {reason}")]
    Content {
        /// The file, variable or flag.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// A value outside its range.
    #[error("setting {setting}: {reason}")]
    Invalid {
        /// `section.key`.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Prefix of the environment variables that are settings.
const ENV_PREFIX: &str = "NACRE_";
/// Tells tests and benchmarks which binary to run; the binary itself may see it, and it is no
/// setting.
const ENV_BINARY: &str = "NACRE_BIN";

impl Settings {
    /// Reads the layers: `file`, if any; `env`, of which only names with the prefix count; and
    /// `flags`, each `section.key=value`.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            None => Table::new(),
            Some(path) => {
                let read = |source| ConfigError::Read { path: path.to_owned(), source };
                let text = fs::read_to_string(path).map_err(read)?;
                let from = format!("configuration file {}", path.display());
                let parsed = text.parse::<Table>().map_err(|e| content(&from, &e))?;
                check(&parsed, &from)?;
                parsed
            }
        };
        let mut env: Vec<_> = env.into_iter().collect();
        env.sort_unstable();
        for (name, value) in env {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            if name == ENV_BINARY {
                continue;
            }
            let key = key.to_ascii_lowercase();
            let from = format!("environment variable {name}");
            let (section, key) = key.split_once('_').ok_or_else(|| unknown(&from, &key))?;
            set(&mut table, section, key, &value, &from)?;
        }
        for flag in flags {
            let from = format!("--set {flag}");
            let parts = flag.split_once('=').and_then(|(key, value)| {
                key.split_once('.').map(|(section, key)| (section, key, value))
            });
            let (section, key, value) = parts.ok_or_else(|| ConfigError::Content {
                from: from.clone(),
                reason: "expected section.key=value".to_owned(),
            })?;
            set(&mut table, section, key, value, &from)?;
        }
        let settings: Self = table.try_into().map_err(|e| content("settings", &e))?;
        settings.validate()?;
        Ok(settings)
    }

    /// Checks ranges.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |setting, reason| Err(ConfigError::Invalid { setting, reason });
        let addresses =
            [("server.listen", &self.server.listen), ("telemetry.http", &self.telemetry.http)];
        for (setting, address) in addresses {
            if !address.is_empty()
                && let Err(reason) = crate::identity::check_address(address)
            {
                return invalid(setting, reason);
            }
        }
        for address in &self.server.advertise {
            if let Err(reason) = crate::identity::check_address(address) {
                return invalid("server.advertise", reason);
            }
        }
        if !matches!(self.mgs.deployment.as_str(), "scratch" | "persistent") {
            let reason = format!("`{}` is neither scratch nor persistent", self.mgs.deployment);
            return invalid("mgs.deployment", reason);
        }
        let client = &self.client;
        let ranges = [
            ("mds.store_cache_bytes", self.mds.store_cache_bytes, 1 << 20, 1 << 40),
            ("mds.inline_bytes_max", self.mds.inline_bytes_max, 0, 32 << 10),
            ("mds.lease_seconds", Size(self.mds.lease_seconds), 2, 3600),
            ("mds.sweep_seconds", Size(self.mds.sweep_seconds), 1, 7 * 24 * 3600),
            ("oss.scrub_bytes_per_second", self.oss.scrub_bytes_per_second, 0, 1 << 40),
            ("oss.io_threads", Size(self.oss.io_threads.into()), 1, 512),
            ("client.dirty_bytes_max", client.dirty_bytes_max, 4 << 20, u64::from(u32::MAX)),
            ("client.retained_bytes_max", client.retained_bytes_max, 4 << 20, 1 << 40),
            ("client.readahead_bytes_max", client.readahead_bytes_max, 0, u64::from(u32::MAX)),
            ("client.rpc_bytes", client.rpc_bytes, 64 << 10, 4 << 20),
            ("client.mds_deadline_seconds", Size(client.mds_deadline_seconds), 1, 86_400),
            ("client.ost_deadline_seconds", Size(client.ost_deadline_seconds), 1, 3600),
        ];
        for (setting, value, min, max) in ranges {
            if !(min..=max).contains(&value.0) {
                return invalid(setting, format!("{value} is not between {min} and {max}"));
            }
        }
        Ok(())
    }
}

fn set(
    table: &mut Table,
    section: &str,
    key: &str,
    text: &str,
    from: &str,
) -> Result<(), ConfigError> {
    let mut one = Table::new();
    let mut inner = Table::new();
    inner.insert(key.to_owned(), value_of(section, key, text));
    one.insert(section.to_owned(), Value::Table(inner.clone()));
    check(&one, from)?;
    let have = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    have.as_table_mut().ok_or_else(|| unknown(from, section))?.extend(inner);
    Ok(())
}

/// A text from the environment or a flag as TOML has it: a number if it is one, a list where a
/// list belongs, else the text itself.
fn value_of(section: &str, key: &str, text: &str) -> Value {
    if (section, key) == ("server", "advertise") {
        let items = text.split(',').filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    }
    text.parse::<i64>().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
}

/// Whether a layer alone can be read, so that an error can name the layer.
fn check(table: &Table, from: &str) -> Result<(), ConfigError> {
    let settings: Result<Settings, _> = table.clone().try_into();
    settings.map(|_| ()).map_err(|error| content(from, &error))
}

fn content(from: &str, error: &toml::de::Error) -> ConfigError {
    // Displayed, it would carry a drawing of the line: the message alone fits into a sentence.
    let reason = error.message().to_owned();
    let line = error.span().map(|span| span.start);
    let reason = match line {
        Some(at) if at > 0 => format!("{reason} (at byte {at})"),
        Some(_) | None => reason,
    };
    ConfigError::Content { from: from.to_owned(), reason }
}

fn unknown(from: &str, key: &str) -> ConfigError {
    ConfigError::Content { from: from.to_owned(), reason: format!("unknown key `{key}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned()), ("HOME".to_owned(), "/".to_owned())]
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nacre.toml");
        let text = "[oss]\nscrub_bytes_per_second = \"1MiB\"\nio_threads = 3\n[telemetry]\nlog = \"warn\"\n";
        fs::write(&file, text).unwrap();
        let flags = ["oss.io_threads=5".to_owned()];
        let env = env("NACRE_OSS_SCRUB_BYTES_PER_SECOND", "2M");
        let settings = Settings::load(Some(&file), env, &flags).unwrap();
        assert_eq!(
            settings.oss,
            OssSettings { scrub_bytes_per_second: Size(2 << 20), io_threads: 5 }
        );
        assert_eq!(settings.telemetry.log, "warn");
        assert_eq!(settings.client, ClientSettings::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_layer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nacre.toml");
        fs::write(&file, "[oss]\nio_treads = 1\n").unwrap();
        let error = Settings::load(Some(&file), [], &[]).unwrap_err().to_string();
        assert!(error.contains("nacre.toml") && error.contains("io_treads"), "{error}");
        let error = Settings::load(None, env("NACRE_OSS_CASH", "1"), &[]).unwrap_err().to_string();
        assert!(error.contains("NACRE_OSS_CASH") && error.contains("`cash`"), "{error}");
        let flag = ["oss.cash=1".to_owned()];
        let error = Settings::load(None, [], &flag).unwrap_err().to_string();
        assert!(error.contains("--set oss.cash=1") && error.contains("`cash`"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let flag = ["client.rpc_bytes=8MiB".to_owned()];
        let error = Settings::load(None, [], &flag).unwrap_err().to_string();
        assert!(error.contains("client.rpc_bytes") && error.contains("4194304"), "{error}");
        let flag = ["telemetry.http=everywhere".to_owned()];
        assert!(Settings::load(None, [], &flag).is_err());
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("7", 7), ("4K", 4096), ("64MiB", 64 << 20), ("1 gb", 1 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "K", "-1", "1X", "99999999999999999999", "16E"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
