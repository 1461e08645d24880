//! Verification of JSON Web Tokens for cqi services.
