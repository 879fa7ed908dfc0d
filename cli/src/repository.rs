//! `nacre link`, `nacre unlink`, `nacre links`: data repositories.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Subcommand};
use nacre_copytool::{Bucket, BucketUrl, Patience};
use nacre_proto::v1;

use crate::copytool::EndpointArgs;
use crate::lfs::cluster::{Cluster, mount_of};

/// Changes of one side that are carried to the other, as they are written: `new,changed,deleted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Policy(v1::RepositoryPolicy);

impl Policy {
    fn names(self) -> Vec<&'static str> {
        let v1::RepositoryPolicy { new, changed, deleted } = self.0;
        let names = [("new", new), ("changed", changed), ("deleted", deleted)];
        names.into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut policy = v1::RepositoryPolicy::default();
        if text == "none" {
            return Ok(Self(policy));
        }
        for event in text.split(',') {
            match event.to_ascii_lowercase().as_str() {
                "new" => policy.new = true,
                "changed" => policy.changed = true,
                "deleted" => policy.deleted = true,
                _ => return Err(format!("{event:?} is none of new, changed, deleted")),
            }
        }
        Ok(Self(policy))
    }
}

#[derive(Debug, Args)]
struct PolicyArgs {
    /// Events in the bucket that change the file system: new,changed,deleted, or none.
    #[arg(long, value_name = "EVENTS")]
    import: Option<Policy>,
    /// Changes of the file system that change the bucket: new,changed,deleted, or none.
    #[arg(long, value_name = "EVENTS")]
    export: Option<Policy>,
    /// Import everything that is in the bucket once, whatever the events are.
    #[arg(long)]
    batch_import: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct LinkArgs {
    #[command(subcommand)]
    update: Option<LinkCommand>,
    /// Bucket, and perhaps a prefix in it.
    #[arg(value_name = "s3://BUCKET[/PREFIX]", required = true)]
    url: Option<BucketUrl>,
    /// A folder on a mount.
    #[arg(required = true)]
    folder: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

#[derive(Debug, Subcommand)]
enum LinkCommand {
    /// Change the events of a link, or import everything once more.
    Update(UpdateArgs),
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// The linked folder, on a mount.
    folder: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
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
    if let Some(LinkCommand::Update(args)) = &args.update {
        return update(args);
    }
    let (Some(url), Some(folder)) = (&args.url, &args.folder) else {
        anyhow::bail!("a bucket and a folder, please");
    };
    anyhow::ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    let (cluster, path) = place(folder)?;
    let bucket = Bucket::new(&args.endpoint.endpoint()?, url.clone(), Patience::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(bucket.probe()).with_context(|| format!("{url} cannot be linked"))?;
    let (bucket, prefix) = (url.bucket().to_owned(), url.prefix().to_owned());
    let repository = v1::Repository {
        path: path.clone(),
        bucket,
        prefix,
        import: args.policy.import.map(|policy| policy.0),
        export: args.policy.export.map(|policy| policy.0),
        batch_import: args.policy.batch_import,
        ..v1::Repository::default()
    };
    let id = add(&cluster, repository)?;
    outln!("{path} is linked to {url} as repository {id}");
    Ok(ExitCode::SUCCESS)
}

/// Adds a repository. Returns its number.
pub(crate) fn add(cluster: &Cluster, repository: v1::Repository) -> anyhow::Result<u32> {
    let uid = rustix::process::getuid().as_raw();
    let request = v1::LinkRepositoryRequest { uid, repository: Some(repository) };
    let answer = cluster.mds(async |mut mds| mds.link_repository(request).await);
    Ok(answer.map_err(|error| anyhow::anyhow!("{error}"))?.id)
}

/// Changes what is given.
fn update(args: &UpdateArgs) -> anyhow::Result<ExitCode> {
    let (cluster, path) = place(&args.folder)?;
    let PolicyArgs { import, export, batch_import } = args.policy;
    let request = v1::UpdateRepositoryRequest {
        uid: rustix::process::getuid().as_raw(),
        id: linked_to(&cluster, &path)?.id,
        import: import.map(|policy| policy.0),
        export: export.map(|policy| policy.0),
        batch_import,
    };
    let answer = cluster.mds(async |mut mds| mds.update_repository(request).await);
    answer.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(ExitCode::SUCCESS)
}

fn all(cluster: &Cluster) -> anyhow::Result<v1::ListRepositoriesResponse> {
    let request = v1::ListRepositoriesRequest {};
    let answer = cluster.mds(async |mut mds| mds.list_repositories(request).await);
    answer.map_err(|error| anyhow::anyhow!("{error}"))
}

fn linked_to(cluster: &Cluster, path: &str) -> anyhow::Result<v1::Repository> {
    let found = all(cluster)?.repositories.into_iter().find(|other| other.path == path);
    found.with_context(|| format!("no repository is linked to {path}"))
}

/// Unlinks a folder. Its files stay, and what is released of them can be restored.
pub(crate) fn unlink(args: &UnlinkArgs) -> anyhow::Result<ExitCode> {
    let (cluster, path) = place(&args.folder)?;
    let uid = rustix::process::getuid().as_raw();
    let request = v1::UnlinkRepositoryRequest { uid, id: linked_to(&cluster, &path)?.id };
    let answer = cluster.mds(async |mut mds| mds.unlink_repository(request).await);
    answer.map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Lists repositories.
pub(crate) fn links(args: &LinksArgs) -> anyhow::Result<ExitCode> {
    let (cluster, _) = place(&args.mount)?;
    let v1::ListRepositoriesResponse { repositories, states } = all(&cluster)?;
    for (repository, state) in repositories.iter().zip(&states) {
        if args.json {
            outln!("{}", as_json(repository, state));
        } else {
            show(repository, state);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn events(policy: Option<v1::RepositoryPolicy>) -> Vec<&'static str> {
    Policy(policy.unwrap_or_default()).names()
}

/// Whether everything in the bucket has been imported, where that was asked for.
fn batch(repository: &v1::Repository) -> Option<&'static str> {
    repository.batch_import.then_some(if repository.imported { "done" } else { "under way" })
}

fn as_json(repository: &v1::Repository, state: &v1::RepositoryState) -> serde_json::Value {
    let v1::Repository { id, path, bucket, prefix, .. } = repository;
    serde_json::json!({
        "id": id,
        "path": path,
        "url": format!("s3://{bucket}/{prefix}"),
        "import": events(repository.import),
        "export": events(repository.export),
        "batch_import": batch(repository),
        "exports_waiting": state.exports_waiting,
        "oldest_export_ms": state.oldest_export_ms,
        "sweeps": state.sweeps,
        "last_sweep_ms": state.last_sweep_ms,
        "imported": state.imported,
        "removed": state.removed,
        "conflicts": state.conflicts,
        "refused": state.refused,
    })
}

fn show(repository: &v1::Repository, state: &v1::RepositoryState) {
    let v1::Repository { id, path, bucket, prefix, .. } = repository;
    let named = |policy| match events(policy) {
        names if names.is_empty() => "none".to_owned(),
        names => names.join(","),
    };
    outln!("{id}  {path}  s3://{bucket}/{prefix}");
    outln!("   import {}, export {}", named(repository.import), named(repository.export));
    if let Some(batch) = batch(repository) {
        outln!("   batch import {batch}");
    }
    if state.sweeps > 0 {
        let ago = state.last_sweep_ms / 1000;
        outln!("   listed {} times, last {ago} s ago", state.sweeps);
    }
    let v1::RepositoryState { imported, removed, conflicts, refused, .. } = state;
    outln!("   imported {imported}, removed {removed}, conflicts {conflicts}, refused {refused}");
    if state.exports_waiting > 0 {
        let seconds = state.oldest_export_ms / 1000;
        outln!("   {} exports wait, the oldest for {seconds} s", state.exports_waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_are_written() {
        let policy: Policy = "NEW,deleted".parse().unwrap();
        assert_eq!(policy.names(), ["new", "deleted"]);
        assert_eq!("none".parse(), Ok(Policy::default()));
        let all = v1::RepositoryPolicy { new: true, changed: true, deleted: true };
        assert_eq!("new,changed,deleted".parse(), Ok(Policy(all)));
        assert!("new,moved".parse::<Policy>().unwrap_err().contains("moved"));
        assert!("".parse::<Policy>().is_err());
    }
}
