//! Architectures, written once, generic over the backend.
