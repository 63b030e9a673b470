//! Every directive has to be known where it stands, and its value has to be of its kind.

use std::collections::HashSet;

use super::report::{Place, Report};
use super::values;
use crate::schema::resources::{Resource, Set};
use crate::schema::setting::{Misfit, read};
use crate::schema::spec::{Flavour, Kind, Spec};
use crate::schema::{self, spaced};
use crate::syntax::suggest::nearest;
use crate::syntax::tree::{Block, Directive, Item};
use crate::values::program::Program;

pub(super) fn check(set: &Set<'_>, report: &mut Report<'_>) {
    for resource in &set.resources {
        if resource.program == Program::Changer {
            continue;
        }
        let Some(kind) = schema::resource(resource.program, resource.block.name()) else {
            unknown_resource(resource, report);
            continue;
        };
        let scope = Scope { program: resource.program, kind, flavour: set.flavour(resource.file) };
        scope.items(&resource.placed_items().collect::<Vec<_>>(), report);
        if scope.flavour == Flavour::Bacula {
            missing(set, resource, kind, report);
        }
    }
}

fn unknown_resource(resource: &Resource<'_>, report: &mut Report<'_>) {
    let name = resource.block.name();
    let kinds = || schema::resources(resource.program).iter().map(|kind| kind.name);
    let remedy = match nearest(name, kinds()) {
        Some(similar) => format!("did you mean {similar:?}?"),
        None => format!("this program knows {}", kinds().collect::<Vec<_>>().join(", ")),
    };
    report.warning(
        "unknown-resource",
        Place::of(resource),
        format!("{name} is no type of resource that its program knows: Bacula does not start with it"),
        remedy,
    );
}

/// Where directives are looked at.
struct Scope<'k> {
    program: Program,
    kind: &'k schema::Resource,
    flavour: Flavour,
}

impl Scope<'_> {
    fn items(&self, items: &[(usize, &Item)], report: &mut Report<'_>) {
        let mut seen = HashSet::new();
        for &(file, item) in items {
            match item {
                Item::Directive(directive) => {
                    let place = Place { file, span: directive.span() };
                    let Some(spec) = self.kind.spec(directive.key()) else {
                        self.unknown(directive.key(), place, report);
                        continue;
                    };
                    if !seen.insert(spec.canonical()) && !spec.adds_up() {
                        set_twice(spec, place, report);
                    }
                    self.known(spec, directive, file, report);
                }
                Item::Block(block) => {
                    let place = Place { file, span: block.span() };
                    let Some(spec) = self.kind.spec(block.name()) else {
                        self.unknown(block.name(), place, report);
                        continue;
                    };
                    self.elsewhere(spec, place, report);
                    self.braces(spec, block, place, report);
                    if let Some(kind) = schema::group(spec.kind) {
                        let inner = Scope { program: self.program, kind: &kind, flavour: self.flavour };
                        let items: Vec<_> = block.items().iter().map(|item| (file, item)).collect();
                        inner.items(&items, report);
                    }
                }
                Item::Include(_) => {}
            }
        }
    }

    fn known(&self, spec: &Spec, directive: &Directive, file: usize, report: &mut Report<'_>) {
        self.elsewhere(spec, Place { file, span: directive.span() }, report);
        let value = Place { file, span: directive.value().span() };
        if let Err(misfit) = read(spec.kind, directive.value()) {
            self.misfit(spec, value, &misfit, report);
        }
        values::check(spec, directive, file, self.flavour, report);
    }

    /// A value that Bacula refuses. What Bareos does with it is not known that well.
    fn misfit(&self, spec: &Spec, place: Place, misfit: &Misfit, report: &mut Report<'_>) {
        let (name, expected) = (spaced(spec.name), &misfit.expected);
        let remedy = misfit.remedy.as_str();
        match self.flavour {
            Flavour::Bacula => report.error(
                "bad-value",
                place,
                format!("{name} needs {expected}: Bacula does not start with this"),
                remedy,
            ),
            Flavour::Bareos => report.warning(
                "bad-value",
                place,
                format!("{name} needs {expected}: Bacula would not start with this, and Bareos may not"),
                remedy,
            ),
        }
    }

    /// Braces behind a directive that takes none, and `=` before those of a group that takes no `=`.
    fn braces(&self, spec: &Spec, block: &Block, place: Place, report: &mut Report<'_>) {
        let equals = block.gap.contains('=');
        let misfit = match spec.kind {
            Kind::Script | Kind::FileList | Kind::Options if equals => {
                Misfit::new("its brace without `=`", "remove the `=`")
            }
            Kind::Script | Kind::FileList | Kind::Options => return,
            Kind::Addresses if equals => return,
            Kind::Addresses => Misfit::new("`=` before its brace", "write the `=`"),
            _ => Misfit::new("a value, not a brace", "write `key = value`"),
        };
        self.misfit(spec, place, &misfit, report);
    }

    /// A directive that the other one of Bacula and Bareos has, or only a newer version.
    fn elsewhere(&self, spec: &Spec, place: Place, report: &mut Report<'_>) {
        if let Some(why) = spec.foreign(self.flavour) {
            report.warning(
                "other-version",
                place,
                format!("{} may not be known to this daemon: {why}", spaced(spec.name)),
                "remove the line unless this daemon has it",
            );
        }
    }

    fn unknown(&self, key: &str, place: Place, report: &mut Report<'_>) {
        let kind = self.kind.name;
        let owner = schema::resources(self.program).iter().find(|other| other.spec(key).is_some());
        let names: Vec<String> = self.kind.specs().map(|spec| spaced(spec.name)).collect();
        let remedy = match (nearest(key, names.iter().map(String::as_str)), owner) {
            (Some(similar), _) => format!("did you mean `{similar}`?"),
            (None, Some(owner)) => format!(
                "it belongs into a {} resource; perhaps the brace before this line is missing",
                owner.name
            ),
            (None, None) => "remove the line, or look for the brace that is missing before it".to_owned(),
        };
        report.warning(
            "unknown-directive",
            place,
            format!(
                "`{key}` is no directive of {kind} in any version known here: the daemon does not start with it; it is kept as it is"
            ),
            remedy,
        );
    }
}

fn set_twice(spec: &Spec, place: Place, report: &mut Report<'_>) {
    let name = spaced(spec.name);
    if matches!(
        spec.kind,
        Kind::YesNo
            | Kind::Number
            | Kind::Integer
            | Kind::Port
            | Kind::Address
            | Kind::Size
            | Kind::BlockSize
            | Kind::Period
            | Kind::Speed
            | Kind::Word(_)
            | Kind::Codes
            | Kind::Digits
    ) {
        report.warning(
            "set-twice",
            place,
            format!("{name} is set a second time: the last one counts, without a word"),
            "keep one of the two lines",
        );
    } else {
        report.error(
            "set-twice",
            place,
            format!("{name} is set a second time: Bacula does not start"),
            "keep one of the two lines",
        );
    }
}

fn missing(set: &Set<'_>, resource: &Resource<'_>, kind: &schema::Resource, report: &mut Report<'_>) {
    let unread = resource.placed_items().any(|(_, item)| matches!(item, Item::Include(_)));
    // What stands in defaults that are not at hand is not missing.
    let defaults =
        resource.text("JobDefs").filter(|_| kind.name == "Job" && !set.is_whole(Program::Director));
    let hidden = defaults.is_some_and(|name| set.named(Program::Director, "JobDefs", name).is_none());
    if kind.name == "JobDefs" || unread || hidden {
        return;
    }
    let has = |key: &str| {
        let own = |(_, directive): (_, &Directive)| {
            kind.spec(directive.key()).is_some_and(|spec| spec.canonical() == key)
        };
        resource.directives().any(own) || (kind.name == "Job" && set.job_text(resource, key).is_some())
    };
    let lacks: Vec<String> = kind
        .specs()
        .filter(|spec| spec.required && !has(spec.name))
        .map(|spec| format!("`{}`", spaced(spec.name)))
        .collect();
    if !lacks.is_empty() {
        report.error(
            "missing-directive",
            Place::of(resource),
            format!("{} {} lacks {}: Bacula does not start", kind.name, resource.name(), lacks.join(", ")),
            "add what is missing",
        );
    }
    if kind.name == "Job" && set.is_whole(Program::Director) {
        job_storage(set, resource, report);
    }
}

/// Every job needs a storage, of its own or its pool's; an Admin job too.
fn job_storage(set: &Set<'_>, job: &Resource<'_>, report: &mut Report<'_>) {
    let pool = set.job_text(job, "Pool").and_then(|pool| set.named(Program::Director, "Pool", pool));
    let of_pool = pool.is_none_or(|pool| pool.directive("Storage").is_some());
    if set.job_text(job, "Storage").is_none() && !of_pool {
        report.error(
            "missing-directive",
            Place::of(job),
            format!("job {} has no storage, nor has its pool: Bacula does not start", job.name()),
            "add `Storage` to the job or to its pool",
        );
    }
}
