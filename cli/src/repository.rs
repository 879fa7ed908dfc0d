//! `nacre link`, `nacre unlink`, `nacre links`: data repositories.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use nacre_copytool::{Bucket, BucketUrl, Patience};
use nacre_proto::v1;

use crate::copytool::EndpointArgs;
use crate::lfs::cluster::{Cluster, mount_of};

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// Bucket, and perhaps a prefix in it.
    #[arg(value_name = "s3://BUCKET[/PREFIX]")]
    url: BucketUrl,
    /// A folder on a mount.
    folder: PathBuf,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UnlinkArgs {
    /// Its folder on a mount.
    folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct LinksArgs {
    /// Any path on a mount.
    mount: PathBuf,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// The cluster of a path on a mount, and the path from the root of the file system.
fn place(path: &Path) -> anyhow::Result<(Cluster, String)> {
    let (mounted, full) = mount_of(path).map_err(|error| anyhow::anyhow!("{error}"))?;
    let below = full.strip_prefix(&mounted.target).context("a path on its mount")?;
    let cluster = Cluster::of_mount(&mounted).map_err(|error| anyhow::anyhow!("{error}"))?;
    let inside = Path::new("/").join(cluster.source.subdir.trim_matches('/')).join(below);
    let text = inside.to_str().context("the path of a data repository is UTF-8")?;
    let text = if text == "/" { text } else { text.trim_end_matches('/') };
    Ok((cluster, text.to_owned()))
}

/// Links a folder to a bucket, if the bucket lets us.
pub(crate) fn link(args: &LinkArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.folder.is_dir(), "{} is not a folder", args.folder.display());
    let (cluster, path) = place(&args.folder)?;
    let bucket = Bucket::new(&args.endpoint.endpoint(), args.url.clone(), Patience::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bucket.probe()).with_context(|| format!("{} cannot be linked", args.url))?;
    let (bucket, prefix) = (args.url.bucket().to_owned(), args.url.prefix().to_owned());
    let id = add(&cluster, v1::Repository { id: 0, path: path.clone(), bucket, prefix })?;
    outln!("{path} is linked to {} as repository {id}", args.url);
    Ok(ExitCode::SUCCESS)
}

/// Adds a repository. Returns its number.
pub(crate) fn add(cluster: &Cluster, repository: v1::Repository) -> anyhow::Result<u32> {
    let uid = rustix::process::getuid().as_raw();
    let request = v1::LinkRepositoryRequest { uid, repository: Some(repository) };
    let answer = cluster.mds(async |mut mds| mds.link_repository(request).await);
    Ok(answer.map_err(|error| anyhow::anyhow!("{error}"))?.id)
}

fn all(cluster: &Cluster) -> anyhow::Result<Vec<v1::Repository>> {
    let request = v1::ListRepositoriesRequest {};
    let answer = cluster.mds(async |mut mds| mds.list_repositories(request).await);
    Ok(answer.map_err(|error| anyhow::anyhow!("{error}"))?.repositories)
}

/// Unlinks a folder. Its files stay, and what is released of them can be restored.
pub(crate) fn unlink(args: &UnlinkArgs) -> anyhow::Result<ExitCode> {
    let (cluster, path) = place(&args.folder)?;
    let found = all(&cluster)?.into_iter().find(|repository| repository.path == path);
    let found = found.with_context(|| format!("no repository is linked to {path}"))?;
    let uid = rustix::process::getuid().as_raw();
    let request = v1::UnlinkRepositoryRequest { uid, id: found.id };
    let answer = cluster.mds(async |mut mds| mds.unlink_repository(request).await);
    answer.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists repositories.
pub(crate) fn links(args: &LinksArgs) -> anyhow::Result<ExitCode> {
    let (cluster, _) = place(&args.mount)?;
    for v1::Repository { id, path, bucket, prefix } in all(&cluster)? {
        if args.json {
            let url = format!("s3://{bucket}/{prefix}");
            outln!("{}", serde_json::json!({ "id": id, "path": path, "url": url }));
        } else {
            outln!("{id}  {path}  s3://{bucket}/{prefix}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
