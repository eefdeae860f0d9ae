"""What an example is: chunks as read, rows as stored, kinds of features, ids of labels."""
