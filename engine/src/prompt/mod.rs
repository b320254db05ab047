//! Conversations to the exact text a model was trained on.
