//! `lfs path2fid` and `lfs fid2path`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use nacre_model::Fid;
use nacre_proto::v1;

use super::cluster::{Cluster, mount_of};
use super::error::LfsError;
use super::layout;

/// Arguments of `lfs path2fid`.
#[derive(Debug, Args)]
pub(crate) struct Path2fidArgs {
    /// Anything on a mount.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// Arguments of `lfs fid2path`.
#[derive(Debug, Args)]
pub(crate) struct Fid2pathArgs {
    /// A mount point, or any path on a mount, or the name of a file system.
    #[arg(value_name = "MOUNT|FSNAME")]
    place: String,
    /// Such as `[0x200000400:0x1:0x0]`, with or without brackets.
    #[arg(required = true)]
    fids: Vec<String>,
}

/// Prints fids.
pub(crate) fn path2fid(args: &Path2fidArgs) -> Result<(), LfsError> {
    for path in &args.paths {
        let fid = layout::fid(path)?;
        if args.paths.len() > 1 {
            outln!("{}: {fid}", path.display());
        } else {
            outln!("{fid}");
        }
    }
    Ok(())
}

/// Prints all paths of each fid.
pub(crate) fn fid2path(args: &Fid2pathArgs) -> Result<(), LfsError> {
    let path = PathBuf::from(&args.place);
    let (cluster, prefix) = if path.exists() {
        let mounted = mount_of(&path)?.0;
        (Cluster::of_mount(&mounted)?, mounted.target)
    } else {
        (Cluster::of_fsname(&args.place)?, PathBuf::new())
    };
    let subdir = cluster.source.subdir.clone();
    for text in &args.fids {
        let fid: Fid = text
            .parse()
            .map_err(|error: nacre_model::fid::BadFid| LfsError::invalid(error.to_string()))?;
        let request = v1::Fid2PathRequest { fid: Some(fid.into()) };
        let answer = cluster.mds(async |mut mds| mds.fid2_path(request).await);
        let answer = answer.map_err(|error| LfsError::new(error.errno(), fid.to_string()))?;
        for path in answer.paths {
            // Paths are from the root of the file system; a mount may begin below it.
            let inside = path.strip_prefix(subdir.as_bytes()).unwrap_or(&path);
            let inside = inside.strip_prefix(b"/").unwrap_or(inside);
            let mut line = Vec::new();
            if !prefix.as_os_str().is_empty() {
                line.extend_from_slice(prefix.as_os_str().as_encoded_bytes());
                line.push(b'/');
            }
            line.extend_from_slice(inside);
            line.push(b'\n');
            let written = std::io::stdout().write_all(&line);
            written.map_err(|error| LfsError::at(std::path::Path::new("stdout"), error))?;
        }
    }
    Ok(())
}
