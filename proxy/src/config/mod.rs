//! TOML to [`Spec`](crate::model::spec::Spec): the only reader of files and environment. May know: model.
