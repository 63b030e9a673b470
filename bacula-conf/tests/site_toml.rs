//! The `[bacula]` table as people write it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use bacula_conf::{Bacula, Period, Size};

fn error(text: &str) -> String {
    toml::from_str::<Bacula>(text).expect_err("a wrong table").to_string()
}

#[test]
fn an_empty_table_is_the_default() {
    assert_eq!(toml::from_str::<Bacula>("").expect("empty"), Bacula::default());
}

#[test]
fn what_is_written_is_read_again() {
    let text = toml::to_string(&Bacula::default()).expect("written");
    assert_eq!(toml::from_str::<Bacula>(&text).expect("read"), Bacula::default());
}

#[test]
fn keys_left_out_keep_their_default() {
    let bacula: Bacula = toml::from_str(
        "layout = 'include'\n[pool]\nretention = '8 weeks'\nmaximum_volume_bytes = '20 GiB'\n\
         [schedule]\nruns = ['Level=Full sat at 22:00']\n[[jobs]]\nname = 'Web'\npaths = ['/srv/www']\n",
    )
    .expect("a good table");
    assert_eq!(bacula.pool.retention, Period::weeks(8));
    assert_eq!(bacula.pool.maximum_volume_bytes, Size::gib(20));
    assert_eq!(bacula.pool.name, Bacula::default().pool.name);
    assert_eq!(bacula.jobs.len(), 1);
}

#[test]
fn errors_name_line_and_remedy() {
    insta::assert_snapshot!(error("[pool]\nretenton = '4 weeks'\n"));
    insta::assert_snapshot!(error("[pool]\nretention = '4 fortnights'\n"));
    insta::assert_snapshot!(error("[pool]\nname = \"a\\nb\"\n"));
    insta::assert_snapshot!(error("[schedule]\nruns = ['Full sonday at 23:05']\n"));
}
