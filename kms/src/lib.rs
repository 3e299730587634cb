//! Secret types, envelope encryption, key generations and custody of the root key.
