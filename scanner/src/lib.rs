//! Images in, inventories out: registry, layers, SBOM.
