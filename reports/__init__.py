"""From records to tables and figures; reads files alone."""
