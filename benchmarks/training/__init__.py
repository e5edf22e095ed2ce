"""What training structured networks costs in time and memory."""
