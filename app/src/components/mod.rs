//! The parts of the page, one a file.

pub mod answer_field;
pub mod chart;
pub mod choices;
pub mod composer;
pub mod device_select;
pub mod facts;
pub mod load_progress;
pub mod loader;
pub mod message;
pub mod model_list;
pub mod model_select;
pub mod notice;
pub mod number_field;
pub mod options;
pub mod rail;
pub mod recovery_form;
pub mod score_actions;
pub mod score_loader;
pub mod score_options;
pub mod score_results;
pub mod status_line;
pub mod suggestions;
pub mod template_field;
pub mod token_strip;
pub mod transcript;
