//! `lfs getstripe`, in Lustre's output form.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use nacre_client::layout_json::{ComponentDoc, LayoutDoc};
use nacre_model::Fid;

use super::error::LfsError;
use super::layout;

/// Arguments of `lfs getstripe`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command are switches")]
pub(crate) struct GetstripeArgs {
    /// Print YAML.
    #[arg(short = 'y', long)]
    yaml: bool,
    /// Go into subfolders.
    #[arg(short, long)]
    recursive: bool,
    /// Only the folders themselves, not what is in them.
    #[arg(short, long)]
    directory: bool,
    /// Print only the number of stripes.
    #[arg(short = 'c', long)]
    stripe_count: bool,
    /// Print only the stripe size.
    #[arg(short = 'S', long)]
    stripe_size: bool,
    /// Print only the OST of the first stripe.
    #[arg(short = 'i', long)]
    stripe_index: bool,
    /// Print only the pool.
    #[arg(short = 'p', long)]
    pool: bool,
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl GetstripeArgs {
    fn values_only(&self) -> bool {
        self.stripe_count || self.stripe_size || self.stripe_index || self.pool
    }
}

/// Prints layouts.
pub(crate) fn run(args: &GetstripeArgs) -> Result<(), LfsError> {
    args.paths.iter().try_for_each(|path| show_tree(args, path, true))
}

fn show_tree(args: &GetstripeArgs, path: &Path, top: bool) -> Result<(), LfsError> {
    let kind = path.symlink_metadata().map_err(|error| LfsError::at(path, error))?;
    if !kind.is_dir() && !kind.is_file() {
        return if top {
            Err(LfsError::invalid(format!(
                "{}: only files and folders have layouts",
                path.display()
            )))
        } else {
            Ok(())
        };
    }
    let doc = layout::get(path)?;
    out!("{}", show(args, path, kind.is_dir(), &doc));
    if !kind.is_dir() || args.directory || !(top || args.recursive) {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(|error| LfsError::at(path, error))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|error| LfsError::at(path, error))?.path());
    }
    names.sort_unstable();
    names.iter().try_for_each(|child| {
        // A folder's own listing shows its files; subfolders only with -r, as Lustre does.
        if child.is_dir() && !child.is_symlink() && !args.recursive {
            let doc = layout::get(child)?;
            out!("{}", show(args, child, true, &doc));
            return Ok(());
        }
        show_tree(args, child, false)
    })
}

fn show(args: &GetstripeArgs, path: &Path, directory: bool, doc: &LayoutDoc) -> String {
    if args.values_only() {
        return values(args, doc);
    }
    let mut text = String::new();
    if args.yaml {
        yaml(&mut text, path, doc, directory);
    } else {
        let _ = writeln!(text, "{}", path.display());
        if directory {
            directory_form(&mut text, doc);
        } else if plain(doc) {
            doc.components.iter().for_each(|component| plain_form(&mut text, doc, component));
        } else {
            composite_form(&mut text, doc, false);
        }
        text.push('\n');
    }
    text
}

/// One component that covers the file.
fn plain(doc: &LayoutDoc) -> bool {
    matches!(doc.components.as_slice(), [one] if one.start == 0 && one.end.is_none())
}

/// The OST of stripe 0: where it is, or where it is wished for.
fn stripe_offset(component: &ComponentDoc) -> i32 {
    component.osts.first().map_or(component.stripe_index, |ost| i32::from(*ost))
}

fn fid_of(doc: &LayoutDoc) -> Fid {
    doc.fid.parse().unwrap_or_default()
}

fn values(args: &GetstripeArgs, doc: &LayoutDoc) -> String {
    // Of a progressive layout, Lustre shows the last component that has objects.
    let last = doc.components.iter().rev().find(|component| !component.osts.is_empty());
    let built_in = ComponentDoc {
        start: 0,
        end: None,
        stripe_size: nacre_model::layout::STRIPE_SIZE_DEFAULT,
        stripe_count: 1,
        stripe_index: -1,
        pool: String::new(),
        osts: Vec::new(),
        object_generation: 0,
    };
    let component = last.or(doc.components.first()).unwrap_or(&built_in);
    let mut shown = Vec::new();
    if args.stripe_count {
        shown.push(component.stripe_count.to_string());
    }
    if args.stripe_size {
        shown.push(component.stripe_size.to_string());
    }
    if args.stripe_index {
        shown.push(stripe_offset(component).to_string());
    }
    if args.pool {
        shown.push(component.pool.clone());
    }
    shown.join(" ") + "\n"
}

fn directory_form(text: &mut String, doc: &LayoutDoc) {
    if doc.components.is_empty() {
        text.push_str("(no default layout: new files get that of the file system)\n");
        return;
    }
    if !plain(doc) {
        composite_form(text, doc, true);
        return;
    }
    for c in &doc.components {
        let _ = write!(
            text,
            "stripe_count:  {} stripe_size:   {} pattern:       raid0 stripe_offset: {}",
            c.stripe_count,
            c.stripe_size,
            stripe_offset(c)
        );
        if !c.pool.is_empty() {
            let _ = write!(text, " pool:          {}", c.pool);
        }
        text.push('\n');
    }
}

fn head(text: &mut String, indent: &str, generation: u32, c: &ComponentDoc) {
    let _ = writeln!(text, "{indent}lmm_stripe_count:  {}", c.stripe_count);
    let _ = writeln!(text, "{indent}lmm_stripe_size:   {}", c.stripe_size);
    let _ = writeln!(text, "{indent}lmm_pattern:       raid0");
    let _ = writeln!(text, "{indent}lmm_layout_gen:    {generation}");
    let _ = writeln!(text, "{indent}lmm_stripe_offset: {}", stripe_offset(c));
    if !c.pool.is_empty() {
        let _ = writeln!(text, "{indent}lmm_pool:          {}", c.pool);
    }
}

fn plain_form(text: &mut String, doc: &LayoutDoc, component: &ComponentDoc) {
    head(text, "", doc.generation, component);
    let fid = fid_of(doc);
    if component.osts.is_empty() {
        return;
    }
    text.push_str("\tobdidx\t\t objid\t\t objid\t\t group\n");
    for ost in &component.osts {
        let hex = format!("{:#x}", fid.oid);
        let group = format!("{:#x}", fid.seq);
        let _ = writeln!(text, "\t{ost:>6}\t{:>14}\t{hex:>13}\t{group:>14}", fid.oid);
    }
}

fn composite_form(text: &mut String, doc: &LayoutDoc, directory: bool) {
    let _ = writeln!(text, "  lcm_layout_gen:    {}", doc.generation);
    let _ = writeln!(text, "  lcm_mirror_count:  1");
    let _ = writeln!(text, "  lcm_entry_count:   {}", doc.components.len());
    for (at, component) in doc.components.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let flags = if component.osts.is_empty() || directory { "0" } else { "init" };
        let end = component.end.map_or_else(|| "EOF".to_owned(), |end| end.to_string());
        let _ = writeln!(text, "    lcme_id:             {}", at + 1);
        let _ = writeln!(text, "    lcme_mirror_id:      0");
        let _ = writeln!(text, "    lcme_flags:          {flags}");
        let _ = writeln!(text, "    lcme_extent.e_start: {}", component.start);
        let _ = writeln!(text, "    lcme_extent.e_end:   {end}");
        head(text, "      ", 0, component);
        if !directory && !component.osts.is_empty() {
            let _ = writeln!(text, "      lmm_objects:");
            for (stripe, ost) in component.osts.iter().enumerate() {
                let fid = fid_of(doc);
                let _ = writeln!(text, "      - {stripe}: {{ l_ost_idx: {ost}, l_fid: {fid} }}");
            }
        }
    }
}

/// As `-y` prints it; [`super::layout_yaml`] reads it.
pub(super) fn yaml(text: &mut String, path: &Path, doc: &LayoutDoc, directory: bool) {
    let quoted = serde_json::to_string(&path.to_string_lossy()).unwrap_or_default();
    let _ = writeln!(text, "- path: {quoted}");
    let _ = writeln!(text, "  fid: \"{}\"", doc.fid);
    if plain(doc) || doc.components.is_empty() {
        for component in &doc.components {
            head(text, "  ", doc.generation, component);
            yaml_objects(text, "  ", doc, component, directory);
        }
        return;
    }
    let _ = writeln!(text, "  lcm_layout_gen:    {}", doc.generation);
    let _ = writeln!(text, "  lcm_mirror_count:  1");
    let _ = writeln!(text, "  lcm_entry_count:   {}", doc.components.len());
    for (at, component) in doc.components.iter().enumerate() {
        let flags = if component.osts.is_empty() || directory { "0" } else { "init" };
        let end = component.end.map_or_else(|| "EOF".to_owned(), |end| end.to_string());
        let _ = writeln!(text, "  component{at}:");
        let _ = writeln!(text, "    lcme_id:             {}", at + 1);
        let _ = writeln!(text, "    lcme_mirror_id:      0");
        let _ = writeln!(text, "    lcme_flags:          {flags}");
        let _ = writeln!(text, "    lcme_extent.e_start: {}", component.start);
        let _ = writeln!(text, "    lcme_extent.e_end:   {end}");
        let _ = writeln!(text, "    sub_layout:");
        head(text, "      ", 0, component);
        yaml_objects(text, "      ", doc, component, directory);
    }
}

fn yaml_objects(
    text: &mut String,
    indent: &str,
    doc: &LayoutDoc,
    component: &ComponentDoc,
    directory: bool,
) {
    if component.osts.is_empty() {
        return;
    }
    let _ = writeln!(text, "{indent}lmm_objects:");
    for ost in &component.osts {
        let _ = writeln!(text, "{indent}- l_ost_idx: {ost}");
        // What a folder wishes for has no objects.
        if !directory {
            let _ = writeln!(text, "{indent}  l_fid:     \"{}\"", doc.fid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> GetstripeArgs {
        GetstripeArgs {
            yaml: false,
            recursive: false,
            directory: false,
            stripe_count: false,
            stripe_size: false,
            stripe_index: false,
            pool: false,
            paths: Vec::new(),
        }
    }

    fn doc(json: &str) -> LayoutDoc {
        LayoutDoc::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_plain_file_looks_as_in_lustre() {
        let doc = doc(r#"{"fid":"[0x200000400:0x2:0x0]","generation":1,
            "components":[{"stripe_size":1048576,"stripe_count":2,"osts":[3,1],"pool":"fast"}]}"#);
        let text = show(&args(), Path::new("/m/f"), false, &doc);
        assert_eq!(
            text,
            "/m/f\nlmm_stripe_count:  2\nlmm_stripe_size:   1048576\nlmm_pattern:       raid0\n\
             lmm_layout_gen:    1\nlmm_stripe_offset: 3\nlmm_pool:          fast\n\
             \tobdidx\t\t objid\t\t objid\t\t group\n\
             \t     3\t             2\t          0x2\t   0x200000400\n\
             \t     1\t             2\t          0x2\t   0x200000400\n\n"
        );
        let count = GetstripeArgs { stripe_count: true, ..args() };
        assert_eq!(show(&count, Path::new("/m/f"), false, &doc), "2\n");
    }

    #[test]
    fn a_progressive_file_shows_its_components() {
        let doc = doc(r#"{"fid":"[0x200000400:0x2:0x0]","generation":2,"components":[
            {"end":67108864,"stripe_size":4194304,"stripe_count":1,"osts":[0]},
            {"start":67108864,"stripe_size":4194304,"stripe_count":-1}]}"#);
        let text = show(&args(), Path::new("/m/f"), false, &doc);
        for part in
            ["lcm_entry_count:   2", "e_end:   67108864", "e_end:   EOF", "flags:          init"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let yaml = show(&GetstripeArgs { yaml: true, ..args() }, Path::new("/m/f"), false, &doc);
        assert!(yaml.contains("  component1:\n"), "{yaml}");
    }
}
