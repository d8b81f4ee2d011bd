"""Generated test beds for both built-in backends: tiny models, their data, and their presets."""
