//! A report on workloads: figures and tables, with the commands that give each number, as a folder of files.

mod figures;
mod markdown;
mod sections;

use crate::Error;
use crate::compare::Choice;
use crate::validate;
use std::collections::BTreeMap;
use std::path::Path;

/// A file of a report, by its name in the folder.
pub(crate) type File = (String, String);

/// Which loads have a table; the figures show all of [`SWEEP`].
const TABLES: [f64; 3] = [0.3, 0.85, 0.95];
const SWEEP: [f64; 5] = [0.3, 0.5, 0.7, 0.85, 0.95];
/// The load of the figures that have only one.
const BUSY: f64 = 0.85;
/// Of the caps in the figure about caps, in shares of what the engine runs at once.
const CAPS: [u32; 4] = [8, 4, 2, 1];

/// What a report is about.
pub(crate) struct Report {
    /// One for each workload and chunk threshold, at any load.
    pub(crate) choices: Vec<Choice>,
    /// The heading.
    pub(crate) title: String,
    /// Whether there is a figure of two tenants that share an engine.
    pub(crate) with_tenants: bool,
}

impl Report {
    /// Everything is simulated before the first file is written, and each file is replaced as a whole.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let files = self.files()?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        for (name, text) in &files {
            let (path, part) = (folder.join(name), folder.join(format!(".{name}.part")));
            std::fs::write(&part, text).map_err(failed(&part))?;
            std::fs::rename(&part, &path).map_err(failed(&path))?;
        }
        Ok(files.into_iter().map(|(name, _)| name).collect())
    }

    /// Each choice must have files of its own.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut known: BTreeMap<String, &Choice> = BTreeMap::new();
        for choice in &self.choices {
            let name = sections::file_name(choice);
            if let Some(other) = known.insert(name.clone(), choice) {
                let rule = if other.trace == choice.trace {
                    format!("is there twice ({name})")
                } else {
                    format!("would be called {name} in the report, as {} is", other.trace)
                };
                return Err(Error::value("<TRACES>...", &choice.trace, rule));
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<File>, Error> {
        let mut text = markdown::head(&self.title);
        let mut files = Vec::new();
        if self.with_tenants {
            text.push_str(markdown::TENANTS);
            files.push(("tenants.svg".to_owned(), validate::tenants::figure()?.svg()));
        }
        for choice in &self.choices {
            let section = sections::section(choice)?;
            text.push_str(&section.text);
            files.extend(section.figures);
        }
        files.push(("README.md".to_owned(), text));
        Ok(files)
    }
}
