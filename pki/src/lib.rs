//! Certificate authorities, issuance profiles, identities that reload themselves, and tokens.
