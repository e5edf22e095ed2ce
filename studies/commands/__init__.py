"""The commands of ``sconv-search`` but those that draw reports; ``studies.cli`` puts them together."""
