//! Authorization and admission decided by Cedar.
