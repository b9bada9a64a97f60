"""Studies with the engine: Jacobian accumulation, Krylov methods, linear regions."""
