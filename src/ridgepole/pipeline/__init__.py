"""From a description to a run: builder, controller, executor, runner."""
