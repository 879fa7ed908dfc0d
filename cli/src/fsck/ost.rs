//! An OST: its objects hold what their checksums say, and somebody knows them.

use nacre_model::{ObjectId, OstIndex};
use nacre_node::{OsDisk, TargetFolder};
use nacre_oss::check::{CheckedObject, Finding, check as check_folder};

use super::report::Report;
use super::{Known, KnownObjects};

pub(super) fn check(
    folder: &TargetFolder,
    known: Option<&KnownObjects>,
    verify: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let index = OstIndex(folder.identity().index);
    let name = index.to_string();
    let mut doomed = 0_u64;
    let summary = check_folder(&OsDisk::new(folder.path()), verify, |finding| match finding {
        Finding::Object(object) => match judge(&object, index, known) {
            Verdict::Well => {}
            Verdict::Doomed => doomed = doomed.saturating_add(1),
            Verdict::Bad(findings) => {
                for what in findings {
                    report.finding(&name, what);
                }
            }
        },
        Finding::Leftover(_) => {}
        Finding::Stranger(path) => report.finding(&name, format!("{path} is no object")),
    })?;
    report.target(
        &name,
        format!(
            "{} objects, {} bytes; {} in doubt after a crash, {} to be destroyed",
            summary.objects,
            summary.bytes,
            summary.doubtful,
            doomed.saturating_add(summary.destroyed)
        ),
    );
    Ok(())
}

enum Verdict {
    Well,
    /// It shall go.
    Doomed,
    Bad(Vec<String>),
}

fn judge(object: &CheckedObject, index: OstIndex, known: Option<&KnownObjects>) -> Verdict {
    let id = object.id;
    let mut bad = Vec::new();
    for (from, to) in &object.corrupt {
        bad.push(format!("object {id}: bytes {from} to {to} do not match their checksum"));
    }
    let here = known.and_then(|known| known.get(&index)).and_then(|all| all.get(&id).copied());
    if known.is_some() && here.is_none() && !object.destroyed {
        bad.push(orphan(id, object.size, known));
    }
    match (bad.is_empty(), here) {
        (false, _) => Verdict::Bad(bad),
        (true, Some(Known::Doomed)) => Verdict::Doomed,
        (true, Some(Known::Live) | None) => Verdict::Well,
    }
}

fn orphan(id: ObjectId, size: u64, known: Option<&KnownObjects>) -> String {
    let elsewhere = known.into_iter().flatten().find(|(_, all)| all.contains_key(&id));
    match elsewhere {
        Some((ost, _)) => format!("object {id} ({size} bytes) belongs on {ost}"),
        None => format!("object {id} ({size} bytes) is an orphan: no file has it"),
    }
}
