"""The commands of ``sconv-search`` but those that draw reports; ``sconv_search.studies.cli`` puts them together."""
