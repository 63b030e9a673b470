//! Flows that glue the libraries into programs.
