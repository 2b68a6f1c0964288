"""Where records are kept: `port` says what a store must do, the engines do it."""
