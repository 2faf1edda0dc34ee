"""The executors of this package; `executor_registry` lists them."""
