//! What `/metrics` says: Prometheus' text format, as far as our own exporter writes it.

/// The sum of all series of the family `name` that have all of `labels`; 0 when there is none.
#[must_use]
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let series = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = series.filter_map(|rest| {
        let (found, value) = rest.rsplit_once(' ')?;
        let is_family = found.is_empty() || found.starts_with('{');
        let has = |(label, value): &(&str, &str)| found.contains(&format!("{label}=\"{value}\""));
        (is_family && labels.iter().all(has)).then(|| value.parse::<f64>().ok()).flatten()
    });
    values.sum()
}

/// The names of all series, with a histogram's `_bucket`, `_sum` and `_count`.
#[must_use]
pub fn series_names(text: &str) -> Vec<String> {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<String> =
        series.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# TYPE a counter\na{role=\"lb\",kind=\"x\"} 2\na{role=\"edge\",kind=\"x\"} 3\na_sum 7\nb 1.5\n";

    #[test]
    fn series_are_summed_by_family_and_labels() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(sum(TEXT, "a", &[]), 5.0));
        assert!(close(sum(TEXT, "a", &[("role", "edge"), ("kind", "x")]), 3.0));
        assert!(close(sum(TEXT, "b", &[]), 1.5));
        assert!(close(sum(TEXT, "c", &[]), 0.0));
        assert_eq!(series_names(TEXT), ["a", "a_sum", "b"]);
    }
}
