//! What a comparison comes to: figures, a line each on the terminal and a list of them in a file.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

/// One number that was measured, of ours and, where there is one, of the peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// What was measured, with its unit at the end: `start_ms`.
    name: String,
    ours: f64,
    peer: Option<f64>,
    /// `ours` by `peer`.
    ratio: Option<f64>,
    /// What `ours` may be at most.
    aim: Option<f64>,
    met: Option<bool>,
}

impl Figure {
    /// A figure of ours, without a peer and without an aim.
    pub(crate) fn new(name: impl Into<String>, ours: f64) -> Self {
        Self { name: name.into(), ours: rounded(ours), peer: None, ratio: None, aim: None, met: None }
    }

    /// The peer's number for the same.
    #[must_use]
    pub(crate) fn beside(mut self, peer: f64) -> Self {
        self.peer = Some(rounded(peer));
        self.ratio = (peer > 0.0).then(|| rounded(self.ours / peer));
        self
    }

    /// What ours may be at most.
    #[must_use]
    pub(crate) fn at_most(mut self, aim: f64) -> Self {
        let aim = rounded(aim);
        self.aim = Some(aim);
        self.met = Some(self.ours <= aim);
        self
    }
}

/// To a thousandth: more is noise.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        write!(f, "{verdict:<8}{:<46}{:>10}", self.name, self.ours)?;
        if let Some(aim) = self.aim {
            write!(f, "  aim <= {aim}")?;
        }
        if let Some(peer) = self.peer {
            write!(f, "  peer {peer}")?;
        }
        if let Some(ratio) = self.ratio {
            write!(f, "  ratio {ratio}")?;
        }
        Ok(())
    }
}

/// The figures of one run, printed as they come and kept for the file.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Prints `figures` and keeps them.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub(crate) fn add(&mut self, figures: Vec<Figure>) -> io::Result<()> {
        for figure in &figures {
            say(figure)?;
        }
        self.figures.extend(figures);
        Ok(())
    }

    /// Prints all that has an aim once more, in one table.
    ///
    /// # Errors
    /// When nothing can be printed.
    pub(crate) fn sum_up(&self) -> io::Result<()> {
        let aimed: Vec<&Figure> = self.figures.iter().filter(|figure| figure.met.is_some()).collect();
        let met = aimed.iter().filter(|figure| figure.met == Some(true)).count();
        say(format!("\n{met} of {} aims are met:", aimed.len()))?;
        aimed.into_iter().try_for_each(say)
    }

    /// Writes the list to `{folder}/{name}.json` and says where it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&self.figures)?;
        fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Prints a line.
///
/// # Errors
/// When nothing can be printed.
pub(crate) fn say(line: impl fmt::Display) -> io::Result<()> {
    let line = line.to_string();
    writeln!(io::stdout().lock(), "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_is_met_up_to_its_aim() {
        let met = |ours| Figure::new("a_ms", ours).at_most(230.0).met;
        assert_eq!((met(230.0), met(230.001)), (Some(true), Some(false)));
        assert_eq!(Figure::new("a_ms", 1.0).met, None);
    }

    #[test]
    fn a_line_names_the_figure_its_verdict_and_the_peer() {
        let missed = Figure::new("herd_ms", 240.1239).at_most(230.0).beside(480.2478).to_string();
        let words: Vec<&str> = missed.split_whitespace().collect();
        assert_eq!(
            words,
            ["NOT", "MET", "herd_ms", "240.124", "aim", "<=", "230", "peer", "480.248", "ratio", "0.5"]
        );
        let plain = Figure::new("p50_ms", 7.0).to_string();
        assert_eq!(plain.split_whitespace().collect::<Vec<_>>(), ["p50_ms", "7"]);
    }

    #[test]
    fn the_file_is_a_list_with_nulls_where_there_is_no_peer() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        report
            .add(vec![Figure::new("a_ms", 1.5).at_most(2.0), Figure::new("b_us", 3.0).beside(0.0)])
            .unwrap();
        let text = fs::read_to_string(report.save(folder.path(), "x").unwrap()).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            json!([
                {"name": "a_ms", "ours": 1.5, "peer": null, "ratio": null, "aim": 2.0, "met": true},
                {"name": "b_us", "ours": 3.0, "peer": 0.0, "ratio": null, "aim": null, "met": null},
            ])
        );
    }
}
