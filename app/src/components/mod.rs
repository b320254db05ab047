//! The parts of the page, one a file.

pub mod chart;
pub mod composer;
pub mod device_select;
pub mod facts;
pub mod load_progress;
pub mod loader;
pub mod message;
pub mod model_list;
pub mod notice;
pub mod number_field;
pub mod options;
pub mod rail;
pub mod status_line;
pub mod suggestions;
pub mod transcript;
