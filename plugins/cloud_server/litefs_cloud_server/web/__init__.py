"""The web page: for people with a browser, with or without JavaScript, of which it has none."""
