//! `lfs setstripe`.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, FromArgMatches};
use nacre_client::layout_json::{ComponentDoc, LayoutDoc};
use nacre_model::layout::STRIPE_SIZE_DEFAULT;
use nacre_model::{Errno, OstIndex};
use nacre_node::config::Size;

use super::cluster::Cluster;
use super::error::LfsError;
use super::{layout, layout_yaml};

/// What one component is told; what it is not told, it takes from the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wish {
    end: Option<u64>,
    count: Option<i32>,
    size: Option<u64>,
    index: Option<i32>,
    pool: Option<String>,
    osts: Option<Vec<u16>>,
}

/// Arguments of `lfs setstripe`.
#[derive(Debug)]
pub(crate) struct SetstripeArgs {
    /// In order; more than one with `-E`.
    components: Vec<Wish>,
    /// Whether there was any `-E`.
    composite: bool,
    delete: bool,
    copy: Option<PathBuf>,
    yaml: Option<PathBuf>,
    paths: Vec<PathBuf>,
}

/// The options as clap sees them; their order is what tells components apart.
#[derive(Debug, clap::Args)]
#[command(after_help = "Sizes take K, M, G, T, P or E. With -E, options belong to the component \
whose -E they follow; the last one must end at -1 (EOF) to hold files of any size.")]
struct Options {
    /// Number of OSTs to stripe over; 0: the default, -1: all.
    #[arg(short = 'c', long, value_name = "COUNT", allow_hyphen_values = true)]
    stripe_count: Vec<i32>,
    /// Bytes on one OST before going on to the next: a multiple of 64K; 0: the default.
    #[arg(short = 'S', long, value_name = "SIZE")]
    stripe_size: Vec<Size>,
    /// OST of the first stripe; -1: any.
    #[arg(short = 'i', long, value_name = "INDEX", allow_hyphen_values = true)]
    stripe_index: Vec<i32>,
    /// Pool to take OSTs from.
    #[arg(short = 'p', long, value_name = "POOL")]
    pool: Vec<String>,
    /// OSTs to take, in this order: indices and ranges such as 0,2-4.
    #[arg(short = 'o', long, value_name = "INDICES")]
    ost: Vec<String>,
    /// End of a component of a progressive layout; -1 or EOF: the end of the file.
    #[arg(short = 'E', long, value_name = "END", allow_hyphen_values = true)]
    component_end: Vec<String>,
    /// Remove the default layout of folders.
    #[arg(short = 'd', long, conflicts_with_all = ["stripe_count", "stripe_size", "stripe_index", "pool", "ost", "component_end", "copy", "yaml"])]
    delete: bool,
    /// Take the layout of this file or folder.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["stripe_count", "stripe_size", "stripe_index", "pool", "ost", "component_end"])]
    copy: Option<PathBuf>,
    /// Take the layout that is in this file, as `getstripe -y` printed it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stripe_count", "stripe_size", "stripe_index", "pool", "ost", "component_end", "copy"])]
    yaml: Option<PathBuf>,
    /// New files, or folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl clap::Args for SetstripeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Options::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Options::augment_args_for_update(command)
    }
}

impl FromArgMatches for SetstripeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let options = Options::from_arg_matches(matches)?;
        let invalid = |text: String| clap::Error::raw(clap::error::ErrorKind::InvalidValue, text);
        let mut told: Vec<(usize, Told)> = Vec::new();
        let mut put = |name: &str, values: Vec<Told>| {
            told.extend(matches.indices_of(name).into_iter().flatten().zip(values));
        };
        put("stripe_count", options.stripe_count.into_iter().map(Told::Count).collect());
        put("stripe_size", options.stripe_size.into_iter().map(|s| Told::Size(s.0)).collect());
        put("stripe_index", options.stripe_index.into_iter().map(Told::Index).collect());
        put("pool", options.pool.into_iter().map(Told::Pool).collect());
        let osts = options.ost.iter().map(|text| index_list(text).map(Told::Osts));
        put("ost", osts.collect::<Result<_, _>>().map_err(invalid)?);
        let ends = options.component_end.iter().map(|text| end_of(text).map(Told::End));
        put("component_end", ends.collect::<Result<_, _>>().map_err(invalid)?);
        told.sort_by_key(|(at, _)| *at);
        let composite = !options.component_end.is_empty();
        Ok(Self {
            components: group(told.into_iter().map(|(_, told)| told)),
            composite,
            delete: options.delete,
            copy: options.copy,
            yaml: options.yaml,
            paths: options.paths,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Debug)]
enum Told {
    End(Option<u64>),
    Count(i32),
    Size(u64),
    Index(i32),
    Pool(String),
    Osts(Vec<u16>),
}

/// Options to components: each `End` begins one, and what comes before the first belongs to it.
fn group(told: impl Iterator<Item = Told>) -> Vec<Wish> {
    let mut wishes = vec![Wish::default()];
    let mut begun = false;
    for option in told {
        if matches!(option, Told::End(_)) && std::mem::replace(&mut begun, true) {
            wishes.push(Wish::default());
        }
        let Some(wish) = wishes.last_mut() else { continue };
        match option {
            Told::End(end) => wish.end = end,
            Told::Count(count) => wish.count = Some(count),
            Told::Size(size) => wish.size = Some(size),
            Told::Index(index) => wish.index = Some(index),
            Told::Pool(pool) => wish.pool = Some(pool),
            Told::Osts(osts) => wish.osts = Some(osts),
        }
    }
    wishes
}

fn end_of(text: &str) -> Result<Option<u64>, String> {
    match text {
        "-1" | "EOF" | "eof" => Ok(None),
        text => text.parse::<Size>().map(|size| Some(size.0)).map_err(|error| error.to_string()),
    }
}

/// `0,2-4` to 0, 2, 3, 4.
pub(super) fn index_list(text: &str) -> Result<Vec<u16>, String> {
    let bad = || format!("`{text}` is not a list of OST indices such as 0,2-4");
    let mut list = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: u16 = from.trim().parse().map_err(|_| bad())?;
        let to: u16 = to.trim().parse().map_err(|_| bad())?;
        if from > to {
            return Err(bad());
        }
        list.extend(from..=to);
    }
    Ok(list)
}

/// Sets layouts.
pub(crate) fn run(args: &SetstripeArgs) -> Result<(), LfsError> {
    if args.delete {
        return args.paths.iter().try_for_each(|path| layout::remove(path));
    }
    let doc = match (&args.copy, &args.yaml) {
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file).map_err(|error| LfsError::at(file, error))?;
            layout_yaml::parse(&text)
                .map_err(|error| LfsError::invalid(format!("{}: {error}", file.display())))?
        }
        (Some(path), _) => {
            let mut doc = layout::get(path)?;
            // The OSTs of the copied file's objects are no wish for the new one.
            if path.is_file() {
                doc.components.iter_mut().for_each(|component| component.osts.clear());
            }
            doc
        }
        (None, None) => document(args)?,
    };
    if doc.components.is_empty() {
        return Err(LfsError::invalid("there is no layout to copy"));
    }
    doc.template().map_err(|error| LfsError::invalid(error.to_string()))?;
    args.paths.iter().try_for_each(|path| apply(path, &doc))
}

fn document(args: &SetstripeArgs) -> Result<LayoutDoc, LfsError> {
    let (mut components, mut start) = (Vec::new(), 0);
    let mut before = Wish::default();
    for wish in &args.components {
        let osts = wish.osts.clone();
        // A list of OSTs says how many.
        let listed = osts.as_ref().and_then(|osts| i32::try_from(osts.len()).ok());
        let merged = Wish {
            end: wish.end,
            count: wish.count.or(listed).or(before.count),
            size: wish.size.or(before.size),
            index: wish.index,
            pool: wish.pool.clone().or(before.pool),
            osts,
        };
        let count = match merged.count.unwrap_or(0) {
            0 => 1,
            count if count < -1 => {
                let text = format!("stripe count {count} is neither -1 (all OSTs) nor above 0");
                return Err(LfsError::invalid(text));
            }
            count => count,
        };
        let size = merged.size.filter(|size| *size != 0).unwrap_or(STRIPE_SIZE_DEFAULT);
        let pool = merged.pool.clone().unwrap_or_default();
        // Lustre writes a pool as FSNAME.POOL too.
        let pool = pool.rsplit_once('.').map_or(pool.as_str(), |(_, pool)| pool);
        components.push(ComponentDoc {
            start,
            end: merged.end,
            stripe_size: size,
            stripe_count: count,
            stripe_index: merged.index.unwrap_or(-1),
            pool: if pool == "none" { String::new() } else { pool.to_owned() },
            osts: merged.osts.clone().unwrap_or_default(),
            object_generation: 0,
        });
        start = merged.end.unwrap_or(u64::MAX);
        before = merged;
    }
    if args.composite && components.iter().rev().skip(1).any(|c| c.end.is_none()) {
        return Err(LfsError::invalid("only the last component may end at -1 (EOF)"));
    }
    Ok(LayoutDoc { fid: String::new(), inline: false, generation: 0, components })
}

/// Sets a folder's default, or makes a file.
fn apply(path: &Path, doc: &LayoutDoc) -> Result<(), LfsError> {
    let mut made = false;
    if !path.is_dir() {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => made = true,
            // An empty file that has no objects yet may still be given a layout.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(LfsError::at(path, error)),
        }
    }
    layout::set(path, doc).map_err(|error| {
        let error = explain(path, doc, error);
        if made {
            // It was made for this layout only; should removing fail, an empty file remains.
            let _ = std::fs::remove_file(path);
        }
        error
    })
}

/// Names what of a refused layout the cluster does not have.
fn explain(path: &Path, doc: &LayoutDoc, error: LfsError) -> LfsError {
    if error.errno() != Errno::EINVAL {
        return error;
    }
    let Ok(cluster) = Cluster::of_path(path) else { return error };
    let fsname = &cluster.map.fsname;
    for component in &doc.components {
        let pool = &component.pool;
        if !pool.is_empty() && !cluster.map.pools.contains_key(pool) {
            return LfsError::invalid(format!("there is no pool `{pool}` in {fsname}"));
        }
        let index = u16::try_from(component.stripe_index).ok();
        for ost in component.osts.iter().copied().chain(index).map(OstIndex) {
            if cluster.map.ost(ost).is_none() {
                return LfsError::invalid(format!("there is no {ost} in {fsname}"));
            }
            if cluster.map.pools.get(pool).is_some_and(|members| !members.contains(&ost)) {
                return LfsError::invalid(format!("{ost} is not in pool `{pool}`"));
            }
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Test {
        #[command(flatten)]
        args: SetstripeArgs,
    }

    fn parse(text: &str) -> SetstripeArgs {
        Test::try_parse_from(["t"].into_iter().chain(text.split(' '))).unwrap().args
    }

    #[test]
    fn a_plain_layout_has_lustre_s_options() {
        let doc = document(&parse("-c -1 -S 1M -i 2 -p fs.fast f")).unwrap();
        let component = &doc.components[0];
        assert_eq!((component.stripe_count, component.stripe_size), (-1, 1 << 20));
        assert_eq!((component.stripe_index, component.pool.as_str()), (2, "fast"));
        assert_eq!(component.end, None);
        let doc = document(&parse("-o 3,1-2 f")).unwrap();
        assert_eq!((doc.components[0].stripe_count, &doc.components[0].osts), (3, &vec![3, 1, 2]));
    }

    #[test]
    fn options_belong_to_the_component_whose_end_they_follow() {
        let doc = document(&parse("-E 64M -c 1 -S 1M -E 1G -c 2 -E -1 -c -1 -S 4M f")).unwrap();
        let told = doc.components.iter().map(|c| (c.end, c.stripe_count, c.stripe_size));
        let told = told.collect::<Vec<_>>();
        assert_eq!(
            told,
            [(Some(64 << 20), 1, 1 << 20), (Some(1 << 30), 2, 1 << 20), (None, -1, 4 << 20)]
        );
        doc.template().unwrap();
    }

    #[test]
    fn wrong_arguments_are_einval_with_a_sentence() {
        for text in ["-S 1000 f", "-c -2 f", "-c 2001 f", "-E -1 -c 1 -E 1G f", "-E 1M -E 1M f"] {
            let args = parse(text);
            let error = run(&args).unwrap_err();
            assert_eq!(error.errno(), nacre_model::Errno::EINVAL, "{text}: {error}");
        }
    }
}
