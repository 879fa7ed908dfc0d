//! Shell completions and man pages, made from the command line's own description.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::Cli;

/// Writes completions for a shell to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "nacre", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Writes one page for each command.
pub(crate) fn man(dir: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("write man pages into {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
