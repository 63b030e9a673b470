//! A run told as a story: a line for each step with its seconds, and a table at the end.

use std::time::{Duration, Instant};

/// The steps so far.
#[derive(Debug, Default)]
pub struct Story {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    ok: bool,
}

impl Story {
    /// Does one step: prints its name, does it, prints how long it took and what it found.
    ///
    /// # Errors
    /// What the step itself fails with.
    pub fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        println!("{name} ...");
        let started = Instant::now();
        let result = work();
        let took = started.elapsed();
        self.steps.push(Step { name: name.to_owned(), took, ok: result.is_ok() });
        match result {
            Ok((value, found)) => {
                println!("    {:6.1} s  {found}", took.as_secs_f64());
                Ok(value)
            }
            Err(error) => {
                println!("    {:6.1} s  FAILED: {error:#}", took.as_secs_f64());
                Err(error)
            }
        }
    }

    /// The table of all steps.
    pub fn table(&self) -> String {
        let width = self.steps.iter().map(|s| s.name.len()).max().unwrap_or(4);
        let mut text = format!("{:width$}  seconds  ok\n", "step");
        for step in &self.steps {
            let ok = if step.ok { "yes" } else { "NO" };
            text.push_str(&format!("{:width$}  {:7.1}  {ok}\n", step.name, step.took.as_secs_f64()));
        }
        let all: Duration = self.steps.iter().map(|s| s.took).sum();
        text.push_str(&format!("{:width$}  {:7.1}\n", "together", all.as_secs_f64()));
        text
    }

    /// Whether every step held.
    pub fn held(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|s| s.ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_spoils_the_story() {
        let mut story = Story::default();
        assert!(!story.held(), "a story without steps shows nothing");
        story.step("a", || Ok(((), "fine".into()))).unwrap();
        assert!(story.held());
        story.step::<()>("b", || anyhow::bail!("broken")).unwrap_err();
        assert!(!story.held());
        assert!(story.table().contains("NO"), "{}", story.table());
    }
}
