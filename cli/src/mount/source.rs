//! What is mounted: `host:port[,host:port…]:/fsname[/subdir]`.

use nacre_model::ClusterMap;
use nacre_node::identity::check_address;

/// A parsed source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Addresses of the MGS.
    pub(crate) mgs: Vec<String>,
    /// The file system.
    pub(crate) fsname: String,
    /// Folder below its root, without slashes around it; empty: the root.
    pub(crate) subdir: String,
}

/// The text is not a source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSource {
    #[error("`{0}`: expected host:port[,host:port]:/fsname[/subdir]")]
    Form(String),
    #[error("{0}")]
    Address(String),
    #[error("`{0}` is not the name of a file system: 1 to 8 letters, digits, `_` or `-`")]
    Fsname(String),
    #[error("subdirectory `{0}` must not hold `.` or `..`")]
    Subdir(String),
}

impl std::str::FromStr for Source {
    type Err = BadSource;

    fn from_str(text: &str) -> Result<Self, BadSource> {
        let (nodes, path) =
            text.split_once(":/").ok_or_else(|| BadSource::Form(text.to_owned()))?;
        let mgs: Vec<String> = nodes.split(',').map(str::to_owned).collect();
        for address in &mgs {
            check_address(address).map_err(BadSource::Address)?;
        }
        let (fsname, subdir) = path.split_once('/').unwrap_or((path, ""));
        if !ClusterMap::valid_fsname(fsname) {
            return Err(BadSource::Fsname(fsname.to_owned()));
        }
        let parts: Vec<&str> = subdir.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(BadSource::Subdir(subdir.to_owned()));
        }
        Ok(Self { mgs, fsname: fsname.to_owned(), subdir: parts.join("/") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_nodes_a_name_and_perhaps_a_folder() {
        let source: Source = "10.0.0.1:7400,mgs2:7400:/scratch/a//b/".parse().unwrap();
        assert_eq!(source.mgs, ["10.0.0.1:7400", "mgs2:7400"]);
        assert_eq!((source.fsname.as_str(), source.subdir.as_str()), ("scratch", "a/b"));
        let root: Source = "[::1]:7400:/nacre".parse().unwrap();
        assert_eq!((root.fsname.as_str(), root.subdir.as_str()), ("nacre", ""));
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for text in ["", "host:/fs", "host:1", "host:1:/", "host:1:/too-long-name", "h:1:/fs/../x"]
        {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
