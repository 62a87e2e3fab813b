"""One file over as many connections as help, until every byte is here. It knows neither a hub nor a model."""
