//! Mount options, as `-o` and `/etc/fstab` have them.

use std::path::PathBuf;

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "mount options are switches")]
pub(crate) struct Options {
    pub(crate) read_only: bool,
    pub(crate) atime: Atime,
    pub(crate) locks: Locks,
    /// Seconds to wait for MGS and MDS.
    pub(crate) retry_seconds: u64,
    pub(crate) allow_other: bool,
    pub(crate) dev: bool,
    pub(crate) suid: bool,
    pub(crate) exec: bool,
    pub(crate) sync: bool,
    pub(crate) dirsync: bool,
    /// Closing a file waits for its data.
    pub(crate) sync_on_close: bool,
    /// Keep what leases are granted on; else ask each time.
    pub(crate) leases: bool,
    /// A process of its own keeps the mount while the one that serves it comes and goes.
    pub(crate) holder: bool,
    pub(crate) remount: bool,
    /// Stay in front though called as mount helper.
    pub(crate) foreground: bool,
    pub(crate) config: Option<PathBuf>,
    /// Where the process logs once it is in the background.
    pub(crate) log: Option<PathBuf>,
    /// Settings of the process, `section.key=value`.
    pub(crate) set: Vec<String>,
}

/// When reads change access times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Atime {
    Relatime,
    Noatime,
    Strictatime,
}

/// Who decides on locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// The metadata server, for all clients.
    Cluster,
    /// This machine's kernel, for itself.
    Local,
    /// Nobody: locking is refused.
    None,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            atime: Atime::Relatime,
            locks: Locks::Cluster,
            retry_seconds: 60,
            allow_other: rustix::process::geteuid().is_root(),
            dev: rustix::process::geteuid().is_root(),
            suid: rustix::process::geteuid().is_root(),
            exec: true,
            sync: false,
            dirsync: false,
            sync_on_close: false,
            leases: true,
            holder: rustix::process::geteuid().is_root(),
            remount: false,
            foreground: false,
            config: None,
            log: None,
            set: Vec::new(),
        }
    }
}

/// An option that cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOption {
    #[error("unknown mount option `{0}`")]
    Unknown(String),
    #[error("mount option `{option}`: {reason}")]
    Value { option: String, reason: &'static str },
}

impl Options {
    /// Reads options in order; later ones win.
    pub(crate) fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Result<Self, BadOption> {
        let mut parsed = Self::default();
        for option in options.into_iter().flat_map(|list| list.split(',')) {
            match option.split_once('=') {
                Some((key, value)) => parsed.take_value(option, key, value)?,
                None => parsed.take_word(option)?,
            }
        }
        Ok(parsed)
    }

    fn take_word(&mut self, word: &str) -> Result<(), BadOption> {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "relatime" => self.atime = Atime::Relatime,
            "noatime" => self.atime = Atime::Noatime,
            "strictatime" | "atime" => self.atime = Atime::Strictatime,
            "flock" => self.locks = Locks::Cluster,
            "localflock" => self.locks = Locks::Local,
            "noflock" => self.locks = Locks::None,
            "allow_other" => self.allow_other = true,
            "allow_root" | "noallow_other" => self.allow_other = false,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "sync" => self.sync = true,
            "async" => self.sync = false,
            "dirsync" => self.dirsync = true,
            "sync_on_close" => self.sync_on_close = true,
            "nosync_on_close" => self.sync_on_close = false,
            "leases" => self.leases = true,
            "noleases" => self.leases = false,
            "holder" => self.holder = true,
            "noholder" => self.holder = false,
            "remount" => self.remount = true,
            "foreground" => self.foreground = true,
            // For mount(8) and the init system, or always so.
            ""
            | "defaults"
            | "_netdev"
            | "auto"
            | "noauto"
            | "nofail"
            | "user"
            | "nouser"
            | "users"
            | "group"
            | "owner"
            | "default_permissions"
            | "user_xattr"
            | "lazystatfs"
            | "user_fid2path"
            | "diratime"
            | "norelatime"
            | "nostrictatime"
            | "iversion"
            | "silent"
            | "loud"
            | "acl" => {}
            word if word.starts_with("x-") || word.starts_with("X-") => {}
            word => return Err(BadOption::Unknown(word.to_owned())),
        }
        Ok(())
    }

    fn take_value(&mut self, option: &str, key: &str, value: &str) -> Result<(), BadOption> {
        let bad = |reason| BadOption::Value { option: option.to_owned(), reason };
        match key {
            "retry" => {
                self.retry_seconds =
                    value.parse().map_err(|_| bad("expected a number of seconds"))?;
            }
            "config" => self.config = Some(value.into()),
            "log" => self.log = Some(value.into()),
            "set" => match value.split_once(':') {
                Some((setting, value)) => self.set.push(format!("{setting}={value}")),
                None => return Err(bad("expected set=section.key:value")),
            },
            // The last ones stand in the mount table, from where mount(8) takes them to remount.
            "comment" | "user_id" | "group_id" | "max_read" | "blksize" => {}
            key if key.starts_with("x-") || key.starts_with("X-") => {}
            key => return Err(BadOption::Unknown(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_fstab_are_understood() {
        let text = "defaults,_netdev,noatime,localflock,retry=5,x-systemd.automount,nofail,ro";
        let options = Options::parse([text]).unwrap();
        assert!(options.read_only);
        assert_eq!((options.atime, options.locks), (Atime::Noatime, Locks::Local));
        assert_eq!(options.retry_seconds, 5);
    }

    #[test]
    fn options_of_the_mount_table_are_understood_by_a_remount() {
        let text = "ro,relatime,user_id=0,group_id=0,default_permissions,allow_other,remount";
        let options = Options::parse([text]).unwrap();
        assert!(options.remount && options.read_only && options.allow_other);
    }

    #[test]
    fn caching_is_on_and_can_be_held_back() {
        let options = Options::parse(["rw"]).unwrap();
        assert!(options.leases && !options.sync_on_close);
        let options = Options::parse(["noleases,sync_on_close"]).unwrap();
        assert!(!options.leases && options.sync_on_close);
    }

    #[test]
    fn a_mount_may_do_without_a_holder() {
        assert!(!Options::parse(["rw,noholder"]).unwrap().holder);
        assert!(Options::parse(["noholder,holder"]).unwrap().holder);
    }

    #[test]
    fn an_unknown_option_is_named() {
        let error = Options::parse(["ro,colour=blue"]).unwrap_err();
        assert_eq!(error, BadOption::Unknown("colour".to_owned()));
        assert!(Options::parse(["retry=soon"]).is_err());
        assert!(Options::parse(["fast"]).is_err());
    }
}
