"""A sweep file in W&B's schema, checked."""
