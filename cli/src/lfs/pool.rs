//! `lfs pool_*`.

use std::path::{Path, PathBuf};

use clap::Args;
use nacre_model::{ClusterMap, Errno};
use nacre_proto::v1;

use super::cluster::Cluster;
use super::error::LfsError;
use super::setstripe::index_list;

/// A pool.
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// File system and pool.
    #[arg(value_name = "FSNAME.POOL")]
    pool: String,
    /// A path on the mount meant, where several clusters of that name are mounted.
    #[arg(short, long, value_name = "PATH")]
    mount: Option<PathBuf>,
}

/// A pool and OSTs.
#[derive(Debug, Args)]
pub(crate) struct MembersArgs {
    /// File system and pool.
    #[arg(value_name = "FSNAME.POOL")]
    pool: String,
    /// A path on the mount meant, where several clusters of that name are mounted.
    #[arg(short, long, value_name = "PATH")]
    mount: Option<PathBuf>,
    /// Indices and ranges (0,2-4), or names (OST0002, nacre-OST[0-3]; hexadecimal).
    #[arg(value_name = "OST", required = true)]
    osts: Vec<String>,
}

/// What to list.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// A file system or a mount to list its pools, a pool to list its OSTs.
    #[arg(value_name = "FSNAME[.POOL]|PATH")]
    what: String,
}

/// Makes a pool.
pub(crate) fn new(args: &PoolArgs) -> Result<(), LfsError> {
    change(v1::PoolOp::New, &args.pool, args.mount.as_deref(), &[])
}

/// Adds members.
pub(crate) fn add(args: &MembersArgs) -> Result<(), LfsError> {
    change(v1::PoolOp::Add, &args.pool, args.mount.as_deref(), &args.osts)
}

/// Removes members.
pub(crate) fn remove(args: &MembersArgs) -> Result<(), LfsError> {
    change(v1::PoolOp::Remove, &args.pool, args.mount.as_deref(), &args.osts)
}

/// Removes a pool.
pub(crate) fn destroy(args: &PoolArgs) -> Result<(), LfsError> {
    change(v1::PoolOp::Destroy, &args.pool, args.mount.as_deref(), &[])
}

fn split(text: &str) -> Result<(&str, &str), LfsError> {
    let (fsname, pool) = text
        .split_once('.')
        .ok_or_else(|| LfsError::invalid(format!("`{text}`: expected FSNAME.POOL")))?;
    if !ClusterMap::valid_pool(pool) {
        let text = format!("`{pool}` is not a pool name: 1 to 15 letters, digits, `_` or `-`");
        return Err(LfsError::invalid(text));
    }
    Ok((fsname, pool))
}

fn change(
    op: v1::PoolOp,
    pool: &str,
    mount: Option<&Path>,
    osts: &[String],
) -> Result<(), LfsError> {
    let (fsname, pool) = split(pool)?;
    let mut indices = Vec::new();
    for text in osts {
        indices.extend(members(fsname, text).map_err(LfsError::invalid)?);
    }
    let cluster = named(fsname, mount)?;
    let request = v1::ChangePoolRequest {
        fsname: fsname.to_owned(),
        op: op as i32,
        pool: pool.to_owned(),
        osts: indices.into_iter().map(u32::from).collect(),
    };
    cluster.mgs(async |mut mgs| mgs.change_pool(request.clone()).await)?;
    Ok(())
}

/// The cluster of a file system.
fn named(fsname: &str, mount: Option<&Path>) -> Result<Cluster, LfsError> {
    let Some(mount) = mount else { return Cluster::of_fsname(fsname) };
    let cluster = Cluster::of_path(mount)?;
    if cluster.map.fsname == fsname {
        Ok(cluster)
    } else {
        let (mount, found) = (mount.display(), &cluster.map.fsname);
        Err(LfsError::invalid(format!("{mount} is of file system `{found}`, not `{fsname}`")))
    }
}

/// `2`, `0,2-4`, `OST0002`, `nacre-OST0002_UUID`, `nacre-OST[0000-0003,5]`.
fn members(fsname: &str, text: &str) -> Result<Vec<u16>, String> {
    let bad = || format!("`{text}` is not an OST: expected an index or a name such as OST0002");
    let name = text.strip_prefix(fsname).and_then(|rest| rest.strip_prefix('-')).unwrap_or(text);
    let name = name.strip_suffix("_UUID").unwrap_or(name);
    let Some(digits) = name.strip_prefix("OST") else { return index_list(text) };
    let hex = |digits: &str| u16::from_str_radix(digits, 16).map_err(|_| bad());
    let Some(list) = digits.strip_prefix('[').and_then(|list| list.strip_suffix(']')) else {
        return Ok(vec![hex(digits)?]);
    };
    let mut all = Vec::new();
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        all.extend(hex(from)?..=hex(to)?);
    }
    Ok(all)
}

/// Lists pools or members.
pub(crate) fn list(args: &ListArgs) -> Result<(), LfsError> {
    let path = Path::new(&args.what);
    if path.exists() {
        let cluster = Cluster::of_path(path)?;
        pools(&cluster);
        return Ok(());
    }
    let (fsname, pool) = match args.what.split_once('.') {
        Some((fsname, pool)) => (fsname, Some(pool)),
        None => (args.what.as_str(), None),
    };
    let cluster = Cluster::of_fsname(fsname)?;
    let Some(pool) = pool else {
        pools(&cluster);
        return Ok(());
    };
    let members = cluster.map.pools.get(pool).ok_or_else(|| {
        LfsError::new(Errno::ENOENT, format!("there is no pool `{pool}` in {fsname}"))
    })?;
    outln!("Pool: {fsname}.{pool}");
    for ost in members {
        outln!("{fsname}-{ost}_UUID");
    }
    Ok(())
}

fn pools(cluster: &Cluster) {
    let fsname = &cluster.map.fsname;
    outln!("Pools from {fsname}:");
    for pool in cluster.map.pools.keys() {
        outln!("{fsname}.{pool}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn osts_are_named_as_lustre_names_them() {
        let cases: [(&str, &[u16]); 6] = [
            ("2", &[2]),
            ("0,2-3", &[0, 2, 3]),
            ("OST000a", &[10]),
            ("nacre-OST0002", &[2]),
            ("nacre-OST0002_UUID", &[2]),
            ("nacre-OST[0000-0002,f]", &[0, 1, 2, 15]),
        ];
        for (text, indices) in cases {
            assert_eq!(members("nacre", text).as_deref(), Ok(indices), "{text}");
        }
        for text in ["", "x", "OSTx", "3-1", "other-OST0001"] {
            assert!(members("nacre", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pool_is_named_with_its_file_system() {
        assert_eq!(split("nacre.fast").unwrap(), ("nacre", "fast"));
        assert!(split("fast").is_err() && split("nacre.with space").is_err());
    }
}
