use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{LoadError, figures, im_server_program, pin};

/// Where a program measures im-server on this machine, and what becomes of its results
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,

    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,

    /// The server's program, instead of one that is built now
    #[arg(long, env = "IM_SERVER")]
    pub im_server: Option<PathBuf>,

    /// Keeps every single result in this file
    #[arg(long)]
    pub json: Option<PathBuf>,

    /// Runs nothing: takes the results that an earlier run kept
    #[arg(long)]
    pub from: Option<PathBuf>,

    /// Puts the tables into this page, between its marks, and the chart beside it
    #[arg(long, value_name = "PAGE")]
    pub write: Option<PathBuf>,
}

impl Setting {
    /// The program of the server.
    ///
    /// # Errors
    ///
    /// Where it has to be built and cannot be.
    pub fn program(&self) -> Result<PathBuf, LoadError> {
        im_server_program(self.im_server.as_deref())
    }

    /// Goes to the servers' core: a child stays on the core that it is started on. Does nothing where there is one core.
    ///
    /// # Errors
    ///
    /// Where there is no such core.
    pub fn to_server(&self) -> Result<(), LoadError> {
        to(self.server_core)
    }

    /// Goes to the generator's core.
    ///
    /// # Errors
    ///
    /// As [`to_server`](Self::to_server).
    pub fn to_load(&self) -> Result<(), LoadError> {
        to(self.load_core)
    }

    /// What was measured: now, or by an earlier run. It is kept where that is wanted.
    ///
    /// # Errors
    ///
    /// Those of `measure`, and of files that cannot be read or written.
    pub fn results<R, M>(&self, measure: M) -> Result<R, Box<dyn Error>>
    where
        R: Serialize + DeserializeOwned,
        M: FnOnce() -> Result<R, Box<dyn Error>>,
    {
        let results = match &self.from {
            Some(path) => serde_json::from_slice(&fs::read(path)?)?,
            None => measure()?,
        };
        if let Some(path) = &self.json {
            fs::write(path, serde_json::to_vec_pretty(&results)?)?;
        }
        Ok(results)
    }

    /// Puts tables and chart into the page, where that is wanted: between the marks `mark`, the chart in a file of this
    /// name, or else of the page's.
    ///
    /// # Errors
    ///
    /// Where the page cannot be read or written, or has no such marks.
    pub fn publish(
        &self,
        mark: &str,
        chart: Option<&str>,
        shows: &str,
        svg: impl FnOnce() -> String,
        tables: &str,
    ) -> Result<(), Box<dyn Error>> {
        let Some(page) = &self.write else { return Ok(()) };
        let own = || page.with_extension("svg");
        let chart = chart.map_or_else(own, |name| page.with_file_name(name));
        fs::write(&chart, svg())?;
        let name = chart.file_name().unwrap_or_default().to_string_lossy();
        let text = format!("![{shows}]({name})\n\n{tables}");
        fs::write(page, figures::insert(&fs::read_to_string(page)?, mark, &text)?)?;
        Ok(())
    }
}

fn to(core: usize) -> Result<(), LoadError> {
    if std::thread::available_parallelism()?.get() > 1 { pin(&[core]) } else { Ok(()) }
}
