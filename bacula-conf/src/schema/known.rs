//! Which directives there are, for those who want to look them up.

use serde::Serialize;

use crate::schema;
use crate::values::program::Program;

/// A directive that a program of Bacula's or of Bareos's knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KnownDirective {
    /// The program.
    pub program: Program,
    /// The type of resource that it may stand in.
    pub resource: &'static str,
    /// Its name as Bacula's own JSON spells it; case and blanks don't count.
    pub name: &'static str,
    /// What counts where it isn't set, as a configuration would say it.
    pub default: Option<&'static str>,
    /// Whether Bacula demands it.
    pub required: bool,
    /// The first version of Bacula that has it, as far back as 9; `None` where only Bareos has it.
    pub bacula: Option<u8>,
    /// Whether Bareos has it.
    pub bareos: bool,
}

/// All directives that are known; groups inside resources are left out.
///
/// # Examples
/// ```
/// let retention = bacula_conf::known_directives().find(|directive| directive.name == "VolumeRetention");
/// assert_eq!(retention.and_then(|directive| directive.default), Some("365 days"));
/// ```
pub fn known_directives() -> impl Iterator<Item = KnownDirective> {
    let programs = [Program::Director, Program::Storage, Program::Client, Program::Console];
    let resources = programs
        .into_iter()
        .flat_map(|program| schema::resources(program).iter().map(move |resource| (program, resource)));
    resources.flat_map(|(program, resource)| {
        resource.specs().map(move |spec| KnownDirective {
            program,
            resource: resource.name,
            name: spec.name,
            default: spec.default,
            required: spec.required,
            bacula: spec.bacula_since(),
            bareos: spec.in_bareos(),
        })
    })
}
