//! Bacula configuration: parse, print, generate and check
