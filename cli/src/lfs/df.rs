//! `lfs df`.

use std::path::PathBuf;

use clap::Args;
use nacre_proto::v1;

use super::cluster::{Cluster, mount_of, mounts};
use super::error::LfsError;
use crate::mount::table::Mounted;

/// Arguments of `lfs df`.
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Sizes with a unit.
    #[arg(short = 'h', long)]
    human_readable: bool,
    /// Inodes instead of space.
    #[arg(short = 'i', long)]
    inodes: bool,
    /// Only the OSTs of this pool.
    #[arg(short = 'p', long, value_name = "POOL")]
    pool: Option<String>,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Any path on the mount; without one, all mounts.
    path: Option<PathBuf>,
}

/// Space, or inodes, of one target.
struct Row {
    name: String,
    /// `MDT:0`, `OST:3`.
    place: String,
    /// Total, used, available; absent for a target that does not answer.
    figures: Option<[u64; 3]>,
}

/// Prints space.
pub(crate) fn run(args: &DfArgs) -> Result<(), LfsError> {
    let mounts = match &args.path {
        Some(path) => vec![mount_of(path)?.0],
        None => mounts()?,
    };
    if mounts.is_empty() {
        return Err(LfsError::new(nacre_model::Errno::ENODEV, "no Nacre file system is mounted"));
    }
    for mounted in mounts {
        out!("{}", show(args, &mounted)?);
    }
    Ok(())
}

fn show(args: &DfArgs, mounted: &Mounted) -> Result<String, LfsError> {
    let cluster = Cluster::of_mount(mounted)?;
    let answer = cluster.mds(async |mut mds| mds.statfs(v1::StatfsRequest {}).await)?;
    let fsname = &cluster.source.fsname;
    let members = args.pool.as_ref().map(|pool| {
        let pool = pool.rsplit_once('.').map_or(pool.as_str(), |(_, pool)| pool);
        cluster.map.pools.get(pool).cloned().ok_or_else(|| {
            let text = format!("there is no pool `{pool}` in {fsname}");
            LfsError::new(nacre_model::Errno::ENOENT, text)
        })
    });
    let members = members.transpose()?;
    let used = |total: u64, free: u64| total.saturating_sub(free);
    let mdt = if args.inodes {
        let total = answer.inodes_used.saturating_add(answer.inodes_free);
        [total, answer.inodes_used, answer.inodes_free]
    } else {
        let (total, free) = (answer.mdt_bytes_total, answer.mdt_bytes_free);
        [total, used(total, free), free]
    };
    let mut rows = vec![Row {
        name: format!("{fsname}-MDT0000_UUID"),
        place: "MDT:0".to_owned(),
        figures: Some(mdt),
    }];
    for ost in &answer.osts {
        let is_member = |index: u32| {
            members.as_ref().is_none_or(|m| m.iter().any(|ost| u32::from(ost.0) == index))
        };
        if !is_member(ost.index) {
            continue;
        }
        let figures = if args.inodes {
            [ost.objects_used.saturating_add(ost.objects_free), ost.objects_used, ost.objects_free]
        } else {
            [ost.bytes_total, used(ost.bytes_total, ost.bytes_free), ost.bytes_available]
        };
        let up = ost.up && ost.bytes_total > 0;
        rows.push(Row {
            name: format!("{fsname}-OST{:04x}_UUID", ost.index),
            place: format!("OST:{}", ost.index),
            figures: up.then_some(figures),
        });
    }
    Ok(table(args, &rows, &mounted.target.display().to_string(), answer.inodes_free))
}

fn table(args: &DfArgs, rows: &[Row], mount: &str, inodes_free: u64) -> String {
    use std::fmt::Write as _;
    let [total, used, free] = match (args.inodes, args.human_readable) {
        (true, _) => ["Inodes", "IUsed", "IFree"],
        (false, true) => ["bytes", "Used", "Available"],
        (false, false) => ["1K-blocks", "Used", "Available"],
    };
    let percent_name = if args.inodes { "IUse%" } else { "Use%" };
    let mut text = String::new();
    let _ =
        writeln!(text, "{:<22}{total:>12}{used:>12}{free:>12}{percent_name:>6} Mounted on", "UUID");
    let mut sum = [0_u64; 3];
    for row in rows {
        let Some(figures) = row.figures else {
            let _ = writeln!(text, "{:<22}: inactive device", row.name);
            continue;
        };
        // Lustre sums up OSTs alone: file data does not go to MDTs.
        if row.place.starts_with("OST") {
            for (sum, figure) in sum.iter_mut().zip(figures) {
                *sum = sum.saturating_add(figure);
            }
        }
        line(&mut text, args, &row.name, figures, &format!("{mount}[{}]", row.place));
    }
    if args.inodes {
        // A file needs an inode on the MDT first of all.
        let mdt = rows.iter().find_map(|row| row.figures).unwrap_or_default();
        sum = [mdt[0], mdt[1], inodes_free];
    }
    text.push('\n');
    line(&mut text, args, "filesystem_summary:", sum, mount);
    text.push('\n');
    text
}

fn line(text: &mut String, args: &DfArgs, name: &str, [total, used, free]: [u64; 3], on: &str) {
    use std::fmt::Write as _;
    let show = |value: u64| match (args.inodes, args.human_readable) {
        (true, false) => value.to_string(),
        (false, false) => (value >> 10).to_string(),
        (_, true) => human(value),
    };
    // As df(1): of what somebody could have, rounded up.
    let percent = used.saturating_mul(100).div_ceil(used.saturating_add(free).max(1)).min(100);
    let (total, used, free) = (show(total), show(used), show(free));
    let _ = writeln!(text, "{name:<22}{total:>12}{used:>12}{free:>12}{percent:>5}% {on}");
}

/// `1.5G`, of 1024.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(super) fn human(value: u64) -> String {
    let mut scaled = value as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if scaled < 1024.0 {
            return if unit.is_empty() { value.to_string() } else { format!("{scaled:.1}{unit}") };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1}E")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_summary_have_lustre_s_form() {
        let args =
            DfArgs { human_readable: true, inodes: false, pool: None, help: None, path: None };
        let row = |place: &str, figures| Row {
            name: format!("fs-{}_UUID", place.replace(':', "")),
            place: place.to_owned(),
            figures,
        };
        let rows = [
            row("MDT:0", Some([1 << 30, 0, 1 << 30])),
            row("OST:0", Some([2 << 30, 1 << 30, 1 << 30])),
            row("OST:1", None),
        ];
        let text = table(&args, &rows, "/m", 7);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].ends_with("2.0G        1.0G        1.0G   50% /m[OST:0]"), "{text}");
        assert!(lines[3].ends_with(": inactive device"), "{text}");
        assert!(
            lines[5].starts_with("filesystem_summary:") && lines[5].contains("50% /m"),
            "{text}"
        );
    }
}
