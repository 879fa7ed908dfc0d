//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A distributed parallel file system.
///
/// Files are striped over object storage targets (OSTs), names live on a metadata target (MDT),
/// and a management server (MGS) tells everybody where everything is.
#[derive(Debug, Parser)]
#[command(name = "nacre", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster on this machine, and mount it.
    Up(UpArgs),
    /// Stop the cluster that `nacre up` started.
    Down(DirArg),
    /// Show each daemon of the cluster that `nacre up` started.
    Status(StatusArgs),
    /// Make a folder a target: of the MGS, an MDT or an OST.
    Format(FormatArgs),
    /// Run a management server.
    Mgs(DaemonArgs),
    /// Run a metadata server.
    Mds(DaemonArgs),
    /// Run an object storage server, for one or more OSTs.
    Oss(DaemonArgs),
    /// Mount a file system; stays in front.
    Mount(MountArgs),
    /// Move files between a file system and its data repositories; stays in front.
    Copytool(crate::copytool::CopytoolArgs),
    /// Serve one bucket, for `nacre up --s3 embedded`.
    #[command(hide = true)]
    S3(crate::copytool::EmbeddedArgs),
    /// Link a folder to a bucket: its files can be archived there.
    Link(crate::repository::LinkArgs),
    /// Unlink a folder from its bucket; files and objects stay.
    Unlink(crate::repository::UnlinkArgs),
    /// List the data repositories of a file system.
    Links(crate::repository::LinksArgs),
    /// Show or change layouts, pools and servers, with the words of Lustre's lfs.
    #[command(disable_help_flag = true)]
    Lfs {
        /// Command and arguments of lfs; `nacre lfs help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Check the folders of a cluster that is down.
    Fsck(crate::fsck::FsckArgs),
    /// Measure a mount beside a plain local folder.
    Bench(crate::bench::BenchArgs),
    /// Write shell completions to standard output.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages of all commands into a folder.
    Man {
        /// The folder.
        dir: PathBuf,
    },
}

/// Layers of settings over the built-in ones.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// Settings in TOML. Over them count environment variables `NACRE_SECTION_KEY`, over those
    /// flags.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as `client.rpc_bytes=4MiB`. May be given several times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// How a process talks to the one that started it. Not for people.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ChildArgs {
    /// Print `ready` on standard output when serving.
    #[arg(long, hide = true)]
    pub(crate) announce: bool,
    /// Stop when the process that started this one dies.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DirArg {
    /// Folder of the cluster.
    #[arg(long, value_name = "DIR", default_value = "/tmp/nacre")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) dir: DirArg,
    /// Print JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) dir: DirArg,
    /// Where to mount [default: DIR/mnt].
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Option<PathBuf>,
    /// How many object storage servers [default: as before, at first 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) oss: Option<u16>,
    /// How many OSTs in all, spread over the servers; more than before adds some [default: as
    /// before, at first 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(crate) osts: Option<u16>,
    /// Also run an S3 server and a copytool, with a bucket linked to the root.
    #[arg(long, value_name = "embedded")]
    pub(crate) s3: Option<S3Server>,
    /// Return when the mount is usable, leaving the cluster in the background.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Start daemons again that die.
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// The background half of --detach.
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

/// An S3 server that `nacre up` can bring along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum S3Server {
    /// In a process of its own, with its objects in the cluster's folder.
    Embedded,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("kind").required(true))]
pub(crate) struct FormatArgs {
    /// The folder becomes a management target.
    #[arg(long, group = "kind")]
    pub(crate) mgs: bool,
    /// The folder becomes a metadata target.
    #[arg(long, group = "kind", requires = "mgsnode")]
    pub(crate) mdt: bool,
    /// The folder becomes an object storage target.
    #[arg(long, group = "kind", requires = "mgsnode", requires = "index")]
    pub(crate) ost: bool,
    /// File system it belongs to: 1 to 8 letters, digits, `_` or `-`.
    #[arg(long, default_value = "nacre")]
    pub(crate) fsname: String,
    /// Which MDT or OST it is, from 0.
    #[arg(long, value_name = "INDEX")]
    pub(crate) index: Option<u16>,
    /// Where the MGS is; several addresses are tried in turn.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub(crate) mgsnode: Vec<String>,
    /// An empty folder, or one to be made.
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Formatted target folder; an OSS takes several.
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) dir: Vec<PathBuf>,
    /// Address to listen on [default: 0.0.0.0 with port 7400 (mgs), 7401 (mds), 7402 (oss)].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Addresses under which others reach this server [default: that listened on, or this host's
    /// name].
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub(crate) advertise: Vec<String>,
    /// Where the MGS is, instead of what the folder says.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub(crate) mgsnode: Vec<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) child: ChildArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// What to mount: addresses of the MGS, the file system, and perhaps a folder in it.
    #[arg(value_name = "HOST:PORT[,…]:/FSNAME[/SUBDIR]")]
    pub(crate) source: String,
    /// Where.
    pub(crate) target: PathBuf,
    /// Mount options, as in /etc/fstab.
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    pub(crate) options: Vec<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) child: ChildArgs,
    /// Leave the terminal: the background half of mount.nacre.
    #[arg(long, hide = true)]
    pub(crate) background: bool,
    /// Serve a mount whose holder is at the other end of standard input.
    #[arg(long, hide = true)]
    pub(crate) held: bool,
}
